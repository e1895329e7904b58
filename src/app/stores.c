/* Opens the two stores as configured: bytes first, then rows; closes them in the other order. Main thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "app_private.h"
#include "depotd/base/log.h"

enum { PASSWORD_MAX = 1024, URL_MAX_BYTES = 64 * 1024 };

/* --- the database's password --- */

static bool is_sqlite(const char *url)
{
	return strncmp(url, "sqlite:", 7) == 0;
}

static bool is_uri(const char *url)
{
	return strncmp(url, "postgresql://", 13) == 0 || strncmp(url, "postgres://", 11) == 0;
}

/* Appends the password as a parameter of a URI (percent-encoded) or of a connection string (quoted). */
static void append_password(struct buf *url, const char *password)
{
	bool uri = is_uri(buf_text(url));
	if (uri)
		buf_puts(url, strchr(buf_text(url), '?') != NULL ? "&password=" : "?password=");
	else
		buf_puts(url, " password='");
	for (const char *p = password; *p != '\0'; p++) {
		if (uri)
			buf_printf(url, "%%%02X", (unsigned char)*p);
		else
			buf_printf(url, "%s%c", *p == '\'' || *p == '\\' ? "\\" : "", *p);
	}
	if (!uri)
		buf_putc(url, '\'');
}

/* The first line of the file. 1 read, 0 no such file, -1. */
static int read_password(const char *path, char password[PASSWORD_MAX], struct err *err)
{
	FILE *file = fopen(path, "re");
	if (file == NULL && errno == ENOENT)
		return 0;
	if (file == NULL)
		return err_set_errno(err, ERR_INVALID, "database.password_file %s", path);
	char *got = fgets(password, PASSWORD_MAX, file);
	fclose(file);
	if (got == NULL)
		return err_set(err, ERR_INVALID, "database.password_file %s is empty", path);
	password[strcspn(password, "\r\n")] = '\0';
	return 1;
}

/* database.password_file, else the credential that systemd laid out for us. */
static int find_password(const struct config *config, char password[PASSWORD_MAX], struct err *err)
{
	const char *path = config_text(config, CONFIG_DATABASE_PASSWORD_FILE);
	if (path[0] != '\0') {
		int found = read_password(path, password, err);
		return found == 0 ? err_set(err, ERR_INVALID,
					    "database.password_file %s: no such file", path)
				  : found;
	}
	const char *credentials = getenv("CREDENTIALS_DIRECTORY");
	if (credentials == NULL)
		return 0;
	struct buf credential;
	buf_init(&credential, 4096);
	buf_printf(&credential, "%s/database-password", credentials);
	int found = read_password(buf_text(&credential), password, err);
	buf_release(&credential);
	return found;
}

int stores_metadata_config(const struct config *config, struct metrics *metrics, struct buf *url,
			   struct metadata_config *out, struct err *err)
{
	config_database_url(config, url);
	if (!is_sqlite(buf_text(url))) {
		char password[PASSWORD_MAX] = "";
		int found = find_password(config, password, err);
		if (found < 0)
			return -1;
		if (found > 0)
			append_password(url, password);
		explicit_bzero(password, sizeof(password));
	}
	if (url->failed)
		return err_set(err, ERR_NO_MEMORY, "database.url");
	*out = (struct metadata_config){
		.url = buf_text(url),
		.connections = (unsigned)config_number(config, CONFIG_DATABASE_CONNECTIONS),
		.connect_timeout_ms = config_number(config, CONFIG_DATABASE_CONNECT_TIMEOUT),
		.statement_timeout_ms = config_number(config, CONFIG_DATABASE_STATEMENT_TIMEOUT),
		.migrate = config_on(config, CONFIG_DATABASE_MIGRATE),
		.metrics = metrics,
	};
	return 0;
}

/* --- opening --- */

static int open_blobs(const struct config *config, enum stores_lock lock, struct blob_store **out,
		      struct err *err)
{
	struct blob_filesystem_config blobs = {
		.directory = config_text(config, CONFIG_STORAGE_DATA_DIR),
		.require_mount = config_on(config, CONFIG_STORAGE_REQUIRE_MOUNT),
		.reserve = config_number(config, CONFIG_STORAGE_RESERVE),
		.exclusive = lock != STORES_SHARED,
	};
	return blob_filesystem_open(&blobs, out, err);
}

int stores_make_directory(const struct config *config, struct err *err)
{
	struct blob_store *blobs = NULL;
	if (config_text(config, CONFIG_DATABASE_URL)[0] != '\0')
		return 0;
	if (open_blobs(config, STORES_SHARED, &blobs, err) != 0)
		return -1;
	blob_close(&blobs);
	return 0;
}

/* On the metadata store's thread, or on the main one while it opens. */
static void log_opening(void *context, const struct err *why)
{
	(void)context;
	if (why != NULL)
		log_event(LOG_LEVEL_WARNING, NULL, "no database yet: %s", why->message);
	else
		log_event(LOG_LEVEL_INFO, NULL, "the database is there");
}

int stores_open(const struct config *config, enum stores_lock lock, struct metrics *metrics,
		struct stores *out, struct err *err)
{
	struct stores stores = {0};
	struct metadata_config metadata;
	struct buf url;
	int result = -1;

	buf_init(&url, URL_MAX_BYTES);
	if (stores_metadata_config(config, metrics, &url, &metadata, err) != 0 ||
	    open_blobs(config, lock, &stores.blobs, err) != 0)
		goto out;
	/* Who serves can do so without a database; who mends cannot. */
	metadata.lazy = lock == STORES_SERVED;
	metadata.opening = log_opening;
	if (metadata_open(&metadata, &stores.metadata, err) != 0)
		goto out;
	*out = stores;
	result = 0;
out:
	if (url.data != NULL)
		explicit_bzero(url.data, url.len);
	buf_release(&url);
	if (result != 0)
		stores_close(&stores);
	return result;
}

void stores_close(struct stores *stores)
{
	if (stores->metadata != NULL)
		metadata_close(&stores->metadata);
	if (stores->blobs != NULL)
		blob_close(&stores->blobs);
}

const char *stores_journal(const struct config *config, struct buf *out)
{
	buf_printf(out, "%s/journal", config_text(config, CONFIG_STORAGE_DATA_DIR));
	return buf_text(out);
}
