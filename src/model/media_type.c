/*
 * What a file is called: from the signature, the name's extension, the client's word, in this order. The signatures are in
 * media_signature.c. Pure.
 */
#include "depotd/model/media_type.h"

#include <stdlib.h>
#include <string.h>

#include "depotd/base/embedded.h"
#include "depotd/base/utf8.h"
#include "media_private.h"

static const char octet_stream[] = "application/octet-stream";

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* tchar of RFC 9110 §5.6.2 */
static bool is_token_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static const char *skip_token(const char *p)
{
	while (is_token_char(*p))
		p++;
	return p;
}

static const char *skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

/* Where type/subtype ends, or NULL. */
static const char *skip_essence(const char *p)
{
	const char *slash = skip_token(p);
	if (slash == p || *slash != '/')
		return NULL;
	const char *end = skip_token(slash + 1);
	return end > slash + 1 ? end : NULL;
}

/* quoted-string, RFC 9110 §5.6.4; NULL where it is none. */
static const char *skip_quoted(const char *p)
{
	for (p++; *p != '"'; p++) {
		if (*p == '\\')
			p++;
		unsigned char c = (unsigned char)*p;
		if ((c < 0x20 && c != '\t') || c == 0x7F)
			return NULL;
	}
	return p + 1;
}

bool media_type_valid(const char *type)
{
	if (strnlen(type, MEDIA_TYPE_MAX + 1) > MEDIA_TYPE_MAX)
		return false;
	const char *p = skip_essence(type);
	if (p == NULL)
		return false;
	/* parameters = *( OWS ";" OWS [ token "=" ( token / quoted-string ) ] ) */
	while (*(p = skip_blanks(p)) == ';') {
		p = skip_blanks(p + 1);
		const char *name_end = skip_token(p);
		if (name_end == p)
			continue;
		if (*name_end != '=')
			return false;
		p = name_end + 1;
		const char *end = *p == '"' ? skip_quoted(p) : skip_token(p);
		if (end == NULL || end == p)
			return false;
		p = end;
	}
	return *p == '\0';
}

/* The binary data bytes of WHATWG MIME Sniffing §3: controls but TAB, LF, FF, CR and ESC. */
static bool is_binary(unsigned char c)
{
	return c <= 0x08 || c == 0x0B || (c >= 0x0E && c <= 0x1A) || (c >= 0x1C && c <= 0x1F);
}

bool media_type_looks_like_text(const unsigned char *head, size_t n, bool whole)
{
	const char *text = (const char *)head;
	/* What was cut off may be the rest of a character. */
	if (!whole)
		n = utf8_cut(text, n);
	for (size_t i = 0; i < n;) {
		uint32_t code;
		unsigned length = head[i] < 0x80 ? 1 : utf8_decode(text + i, n - i, &code);
		if (length == 0 || is_binary(head[i]))
			return false;
		i += length;
	}
	return true;
}

/* --- by extension --- */

enum { EXTENSION_MAX = 31 };

static int compare_extension(const void *key, const void *row)
{
	return strcmp(key, ((const struct media_extension *)row)->extension);
}

const char *media_type_by_extension(const char *name)
{
	const char *dot = strrchr(name, '.');
	/* ".profile" has no extension, it is hidden. */
	if (dot == NULL || dot == name || strlen(dot + 1) > EXTENSION_MAX)
		return NULL;
	char extension[EXTENSION_MAX + 1];
	size_t n = 0;
	for (const char *p = dot + 1; *p != '\0'; p++)
		extension[n++] = lower(*p);
	extension[n] = '\0';
	const struct media_extension *row = bsearch(extension, media_modern, media_modern_count,
						    sizeof(media_modern[0]), compare_extension);
	if (row == NULL)
		row = bsearch(extension, media_extensions, media_extension_count,
			      sizeof(media_extensions[0]), compare_extension);
	return row != NULL ? row->type : NULL;
}

/* --- the decision --- */

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool ends_with(const char *text, const char *suffix)
{
	size_t n = strlen(text), m = strlen(suffix);
	return n >= m && strcmp(text + n - m, suffix) == 0;
}

/*
 * Container families: a signature says only the outermost format, and the name's extension may say which of the many that
 * are built on it. A pattern is a whole type, or a beginning "x*", or an end "*x".
 */
static const struct refinement {
	const char *family;
	const char *patterns[24];
} refinements[] = {
	{"application/zip",
	 {"*+zip",
	  "application/vnd.openxmlformats-*",
	  "application/vnd.oasis.opendocument.*",
	  "*.macroenabled.12",
	  "application/java-archive",
	  "application/vnd.android.package-archive",
	  "application/vnd.google-earth.kmz",
	  "application/x-xpinstall",
	  "application/oxps",
	  "application/vnd.ms-xpsdocument",
	  "application/vnd.visio",
	  "application/vnd.ms-visio*",
	  "application/vnd.sun.xml.*",
	  "application/vnd.apple.*",
	  "application/x-iwork-*",
	  "model/3mf",
	  "application/vnd.dece.zip",
	  "application/vnd.adobe.air-application-installer-package+zip",
	  "application/x-cbz",
	  "application/vnd.sketchup.skp",
	  "application/x-krita"}},
	{"application/x-ole-storage",
	 {"application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint",
	  "application/x-msi", "application/vnd.visio", "application/vnd.ms-outlook",
	  "application/x-mspublisher", "application/vnd.ms-project", "application/vnd.ms-works",
	  "application/vnd.stardivision.*", "application/x-msaccess", "application/x-hwp",
	  "application/vnd.ms-*.macroenabled.12"}},
	{"text/xml",
	 {"*xml", "text/*", "application/x-*", "application/vnd.*", "model/*",
	  "application/dash+*"}},
	{"text/html",
	 {"*xml", "application/xml-dtd", "text/markdown", "text/javascript", "text/x-*",
	  "message/rfc822"}},
	{"application/gzip",
	 {"application/x-gtar-compressed", "application/x-compressed-tar",
	  "application/x-dia-diagram", "application/x-abiword", "application/x-graphite",
	  "application/vnd.lotus-*"}},
	{"application/ogg", {"audio/ogg", "video/ogg", "audio/x-speex", "audio/opus"}},
	{"video/ogg", {"audio/ogg"}},
	{"video/x-matroska",
	 {"audio/x-matroska", "video/x-matroska-3d", "video/webm", "audio/webm"}},
	{"video/webm", {"audio/webm"}},
	{"video/mp4",
	 {"audio/mp4", "video/x-m4v", "video/quicktime", "video/3gpp", "video/3gpp2", "audio/3gpp",
	  "image/heic", "image/heif", "image/avif", "image/x-canon-cr3", "video/mj2",
	  "video/mp2t"}},
	{"audio/mp4", {"audio/x-m4a", "audio/aac", "audio/x-m4b"}},
	{"image/heif", {"image/heic", "image/avif"}},
	{"image/tiff", {"image/x-*"}},
	{"video/x-ms-asf", {"video/x-ms-wmv", "audio/x-ms-wma", "video/x-ms-wm*"}},
	{"application/postscript", {"application/illustrator", "image/x-eps"}},
	{"application/x-elf",
	 {"application/x-sharedlib", "application/vnd.appimage", "application/x-executable"}},
	{"application/vnd.sqlite3", {"application/x-sqlite3", "application/geopackage+sqlite3"}},
	{"image/png", {"image/apng"}},
};

static bool matches_pattern(const char *type, const char *pattern)
{
	size_t n = strlen(pattern);
	if (pattern[0] == '*')
		return ends_with(type, pattern + 1);
	if (pattern[n - 1] == '*')
		return strncmp(type, pattern, n - 1) == 0;
	return strcmp(type, pattern) == 0;
}

static bool refines(const char *type, const char *family)
{
	for (size_t i = 0; i < sizeof(refinements) / sizeof(refinements[0]); i++) {
		if (strcmp(refinements[i].family, family) != 0)
			continue;
		for (const char *const *pattern = refinements[i].patterns; *pattern != NULL;
		     pattern++) {
			if (matches_pattern(type, *pattern))
				return true;
		}
	}
	return false;
}

/* The client's word without parameters, in lower case; false where it says nothing. */
static bool take_clients_word(const char *client, char out[MEDIA_TYPE_MAX + 1])
{
	if (client == NULL)
		return false;
	client = skip_blanks(client);
	const char *end = skip_essence(client);
	if (end == NULL || (size_t)(end - client) > MEDIA_TYPE_MAX)
		return false;
	/* Whatever follows must be parameters: "text/html/x" is no type. Their own syntax is not looked at: they are dropped. */
	const char *rest = skip_blanks(end);
	if (*rest != '\0' && *rest != ';')
		return false;
	size_t n = 0;
	for (; client < end; client++)
		out[n++] = lower(*client);
	out[n] = '\0';
	return true;
}

static void say(struct media_type_verdict *verdict, const char *type)
{
	size_t n = strnlen(type, MEDIA_TYPE_MAX);
	memcpy(verdict->type, type, n);
	verdict->type[n] = '\0';
}

struct media_type_verdict media_type_decide(const unsigned char *head, size_t n, bool whole,
					    const char *name, const char *client)
{
	struct media_type_verdict verdict = {.sniffed = media_type_by_signature(head, n)};
	const char *by_name = media_type_by_extension(name);
	if (verdict.sniffed != NULL) {
		bool finer = by_name != NULL && refines(by_name, verdict.sniffed);
		say(&verdict, finer ? by_name : verdict.sniffed);
		return verdict;
	}
	if (by_name != NULL)
		say(&verdict, by_name);
	else if (!take_clients_word(client, verdict.type))
		say(&verdict, octet_stream);
	if (strcmp(verdict.type, "text/plain") == 0 && media_type_looks_like_text(head, n, whole))
		verdict.sniffed = "text/plain";
	return verdict;
}

/*
 * What a browser shows without running anything that is inside. SVG, HTML and XML are documents that can script, and
 * never get here; their names are not in the list, and no other signature's name has them as a beginning.
 */
bool media_type_may_inline(const char *sniffed)
{
	static const char *const allowed[] = {
		"application/ogg", "application/pdf", "image/apng",
		"image/avif",      "image/bmp",       "image/gif",
		"image/heic",      "image/heif",      "image/jpeg",
		"image/jxl",       "image/png",       "image/tiff",
		"image/webp",      "text/plain",      "image/vnd.microsoft.icon",
	};
	if (sniffed == NULL)
		return false;
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
		if (strcmp(sniffed, allowed[i]) == 0)
			return true;
	}
	return starts_with(sniffed, "audio/") || starts_with(sniffed, "video/");
}
