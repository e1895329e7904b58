/* Containers that tell what is in them: MP4 and its kin, ZIP, Matroska, Ogg, MPEG frames and packets. Pure. */
#include <stdint.h>
#include <string.h>

#include "media_private.h"

static uint32_t be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static unsigned le16(const unsigned char *p)
{
	return p[0] | (unsigned)p[1] << 8;
}

/* --- ISO base media (ISO/IEC 14496-12 §4.3): a box "ftyp" with a major brand and compatible ones --- */

/* In the order of telling most: the first row that any of the brands is in decides. */
static const struct {
	char brand[5]; /* a dot at the end stands for anything */
	const char *type;
} brands[] = {
	{"avif", "image/avif"},      {"avis", "image/avif"},        {"heic", "image/heic"},
	{"heix", "image/heic"},      {"heim", "image/heic"},        {"heis", "image/heic"},
	{"hevc", "image/heic"},      {"hevx", "image/heic"},        {"mif1", "image/heif"},
	{"msf1", "image/heif"},      {"crx ", "image/x-canon-cr3"}, {"jp2 ", "image/jp2"},
	{"qt  ", "video/quicktime"}, {"M4A ", "audio/mp4"},         {"M4B ", "audio/mp4"},
	{"M4P ", "audio/mp4"},       {"3gp.", "video/3gpp"},        {"3g2.", "video/3gpp2"},
};

static const char *type_of_brand(const unsigned char *brand)
{
	for (size_t i = 0; i < sizeof(brands) / sizeof(brands[0]); i++) {
		size_t length = brands[i].brand[3] == '.' ? 3 : 4;
		if (memcmp(brand, brands[i].brand, length) == 0)
			return brands[i].type;
	}
	return NULL;
}

/* A QuickTime film of before 2001 has no ftyp: it begins with one of these boxes, of a size that a box can have. */
static bool is_old_quicktime(const unsigned char *head, size_t n)
{
	if (n < 8 || (be32(head) != 1 && be32(head) < 8))
		return false;
	return MEDIA_HAS(head, n, 4, "moov") || MEDIA_HAS(head, n, 4, "mdat") ||
	       (MEDIA_HAS(head, n, 4, "wide") && MEDIA_HAS(head, n, 12, "mdat"));
}

const char *media_match_iso_bmff(const unsigned char *head, size_t n)
{
	if (!MEDIA_HAS(head, n, 4, "ftyp") || n < 16)
		return is_old_quicktime(head, n) ? "video/quicktime" : NULL;
	size_t end = be32(head);
	if (end < 16 || end % 4 != 0)
		return NULL;
	if (end > n)
		end = n;
	const char *type = type_of_brand(head + 8);
	/* mif1 says a picture only; which coding, the compatible brands say. An "isom" film may list "M4A " and be one. */
	bool vague = type != NULL && strcmp(type, "image/heif") == 0;
	for (size_t at = 16; vague && at + 4 <= end; at += 4) {
		const char *finer = type_of_brand(head + at);
		if (finer != NULL && strcmp(finer, type) != 0 && strncmp(finer, "image/", 6) == 0)
			return finer;
	}
	return type != NULL ? type : "video/mp4";
}

/* --- ZIP: the first entries' names tell what it is --- */

enum { ZIP_HEADER = 30, ZIP_NAME_LENGTH_AT = 26 };

static const struct {
	const char *name; /* beginning of an entry's name */
	const char *type;
} zip_entries[] = {
	{"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
	{"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
	{"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
	{"AndroidManifest.xml", "application/vnd.android.package-archive"},
	{"META-INF/MANIFEST.MF", "application/java-archive"},
};

/* EPUB and OpenDocument: the first entry is "mimetype", stored as it is. */
static const char *const zip_mimetypes[] = {
	"application/epub+zip",
	"application/vnd.oasis.opendocument.text",
	"application/vnd.oasis.opendocument.spreadsheet",
	"application/vnd.oasis.opendocument.presentation",
	"application/vnd.oasis.opendocument.graphics",
};

static const char *zip_mimetype(const unsigned char *head, size_t n)
{
	size_t at = ZIP_HEADER + 8;
	if (!MEDIA_HAS(head, n, ZIP_HEADER, "mimetype"))
		return NULL;
	for (size_t i = 0; i < sizeof(zip_mimetypes) / sizeof(zip_mimetypes[0]); i++) {
		size_t length = strlen(zip_mimetypes[i]);
		/* "…text" also begins "…text-template": the next entry must follow at once. */
		if (media_has(head, n, at, zip_mimetypes[i], length) &&
		    (at + length == n || MEDIA_HAS(head, n, at + length, "PK")))
			return zip_mimetypes[i];
	}
	return NULL;
}

static const char *zip_entry_type(const unsigned char *head, size_t n, size_t header)
{
	size_t name = header + ZIP_HEADER;
	if (name > n)
		return NULL;
	size_t name_length = le16(head + header + ZIP_NAME_LENGTH_AT);
	for (size_t i = 0; i < sizeof(zip_entries) / sizeof(zip_entries[0]); i++) {
		size_t length = strlen(zip_entries[i].name);
		if (length <= name_length && media_has(head, n, name, zip_entries[i].name, length))
			return zip_entries[i].type;
	}
	return NULL;
}

const char *media_match_zip(const unsigned char *head, size_t n)
{
	if (MEDIA_HAS(head, n, 0, "PK\5\6") || MEDIA_HAS(head, n, 0, "PK\7\10"))
		return "application/zip";
	if (!MEDIA_HAS(head, n, 0, "PK\3\4"))
		return NULL;
	const char *type = zip_mimetype(head, n);
	/* Sizes may stand behind the data, so headers are looked for rather than stepped to. */
	for (size_t at = 0; type == NULL && at < n;) {
		type = zip_entry_type(head, n, at);
		const unsigned char *next = memmem(head + at + 1, n - at - 1, "PK\3\4", 4);
		at = next != NULL ? (size_t)(next - head) : n;
	}
	return type != NULL ? type : "application/zip";
}

/* --- Matroska: an EBML header (RFC 8794 §11.2) whose DocType is "webm" or "matroska" --- */

const char *media_match_matroska(const unsigned char *head, size_t n)
{
	if (!MEDIA_HAS(head, n, 0, "\x1A\x45\xDF\xA3"))
		return NULL;
	/* DocType is a string near the start; its id and a length of one byte come before it. */
	size_t end = n < 128 ? n : 128;
	const unsigned char *id = memmem(head, end, "\x42\x82", 2);
	size_t at = id != NULL ? (size_t)(id - head) + 3 : end;
	if (MEDIA_HAS(head, end, at, "webm"))
		return "video/webm";
	return MEDIA_HAS(head, end, at, "matroska") ? "video/x-matroska" : "application/x-ebml";
}

/* --- Ogg (RFC 3533 §6): the first page holds the first packet of the first stream, which names its codec --- */

const char *media_match_ogg(const unsigned char *head, size_t n)
{
	if (!MEDIA_HAS(head, n, 0, "OggS\0"))
		return NULL;
	size_t packet = n > 26 ? 27 + (size_t)head[26] : n;
	if (MEDIA_HAS(head, n, packet, "\1vorbis") || MEDIA_HAS(head, n, packet, "OpusHead") ||
	    MEDIA_HAS(head, n, packet,
		      "\x7F"
		      "FLAC") ||
	    MEDIA_HAS(head, n, packet, "Speex   "))
		return "audio/ogg";
	if (MEDIA_HAS(head, n, packet, "\x80theora"))
		return "video/ogg";
	return "application/ogg";
}

/* --- MPEG audio --- */

/* The bytes of an MPEG-1/2/2.5 layer III frame whose header stands at p, or 0 where it is none (ISO/IEC 11172-3 §2.4.2.3). */
static size_t mp3_frame_length(const unsigned char *p)
{
	static const unsigned short rates_1[16] = {0,   32,  40,  48,  56,  64,  80,  96,
						   112, 128, 160, 192, 224, 256, 320, 0};
	static const unsigned short rates_2[16] = {0,  8,  16, 24,  32,  40,  48,  56,
						   64, 80, 96, 112, 128, 144, 160, 0};
	static const unsigned samples_1[4] = {44100, 48000, 32000, 0};
	unsigned version = p[1] >> 3 & 3, layer = p[1] >> 1 & 3;
	if (p[0] != 0xFF || (p[1] & 0xE0) != 0xE0 || version == 1 || layer != 1)
		return 0;
	unsigned rate = version == 3 ? rates_1[p[2] >> 4] : rates_2[p[2] >> 4];
	unsigned samples = samples_1[p[2] >> 2 & 3] >> (version == 3 ? 0 : version == 2 ? 1 : 2);
	if (rate == 0 || samples == 0)
		return 0;
	return (version == 3 ? 144000u : 72000u) * rate / samples + (p[2] >> 1 & 1);
}

/* The same of an ADTS frame (ISO/IEC 14496-3 §1.A.2.2). */
static size_t adts_frame_length(const unsigned char *p)
{
	if (p[0] != 0xFF || (p[1] & 0xF6) != 0xF0 || (p[2] >> 2 & 0x0F) > 12)
		return 0;
	size_t length = (size_t)(p[3] & 3) << 11 | (size_t)p[4] << 3 | p[5] >> 5;
	return length >= 7 ? length : 0;
}

/* Eleven bits prove nothing: the second frame must be where the first one says, and the third where the second does. */
static bool frames_follow(const unsigned char *head, size_t n, size_t header,
			  size_t (*frame_length)(const unsigned char *p))
{
	size_t at = 0;
	for (int frame = 0; frame < 3; frame++) {
		if (at > n || n - at < header)
			return frame == 2; /* the head ends before: two must do */
		size_t length = frame_length(head + at);
		if (length == 0)
			return false;
		at += length;
	}
	return true;
}

const char *media_match_mpeg_audio(const unsigned char *head, size_t n)
{
	/* ID3v2 (id3.org, §3.1): version, flags, and a size whose bytes all have the top bit clear. */
	if (MEDIA_HAS(head, n, 0, "ID3") && n >= 10)
		return head[3] < 0xFF && head[4] < 0xFF && (head[5] & 0x0F) == 0 &&
				       head[6] < 0x80 && head[7] < 0x80 && head[8] < 0x80 &&
				       head[9] < 0x80
			       ? "audio/mpeg"
			       : NULL;
	if (frames_follow(head, n, 4, mp3_frame_length))
		return "audio/mpeg";
	return frames_follow(head, n, 7, adts_frame_length) ? "audio/aac" : NULL;
}

/* --- MPEG-2 transport stream: packets of 188 bytes (192 with time codes), each beginning with 0x47 --- */

const char *media_match_mpeg_ts(const unsigned char *head, size_t n)
{
	static const struct {
		size_t first, step;
	} layouts[] = {{0, 188}, {4, 192}};
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		size_t at = layouts[i].first;
		int packets = 0;
		for (; at < n && packets < 4 && head[at] == 0x47; at += layouts[i].step)
			packets++;
		if (packets == 4)
			return "video/mp2t";
	}
	return NULL;
}
