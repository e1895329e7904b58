/*
 * What the first bytes say: fixed patterns in one table, and a matcher each for formats that hide their mark behind
 * others. Sources: WHATWG MIME Sniffing §6 and §7, and the formats' own documents. A pattern that a text could begin with
 * by chance ("BM", "MZ") is only believed when more of its header fits. Every read is inside head[0..n). Pure.
 */
#include <stdint.h>
#include <string.h>

#include "depotd/model/media_type.h"
#include "media_private.h"

#define PATTERN(offset, bytes, type)                                                               \
	{                                                                                          \
		offset, sizeof(bytes) - 1, bytes, type                                             \
	}

static const struct pattern {
	unsigned short offset, length;
	const char *bytes;
	const char *type;
} patterns[] = {
	/* images */
	PATTERN(0, "\x89PNG\r\n\x1A\n", "image/png"),
	PATTERN(0, "\xFF\xD8\xFF", "image/jpeg"),
	PATTERN(0, "GIF87a", "image/gif"),
	PATTERN(0, "GIF89a", "image/gif"),
	PATTERN(0, "II*\0", "image/tiff"),
	PATTERN(0, "MM\0*", "image/tiff"),
	PATTERN(0, "8BPS\0\1", "image/vnd.adobe.photoshop"),
	PATTERN(0, "gimp xcf ", "image/x-xcf"),
	PATTERN(0, "\0\0\0\x0CjP  \r\n\x87\n", "image/jp2"),
	PATTERN(0, "\0\0\0\x0CJXL \r\n\x87\n", "image/jxl"),
	PATTERN(0, "AT&TFORM", "image/vnd.djvu"),
	PATTERN(0, "v/1\1", "image/x-exr"),
	/* sound and film; RIFF, ISO-BMFF, Matroska, Ogg and MPEG frames have matchers */
	PATTERN(0, "fLaC", "audio/flac"),
	PATTERN(0, "MThd\0\0\0\6", "audio/midi"),
	PATTERN(0, "#!AMR", "audio/amr"),
	PATTERN(0, ".snd\0\0\0", "audio/basic"),
	PATTERN(0, "FLV\1", "video/x-flv"),
	PATTERN(0, "\x30\x26\xB2\x75\x8E\x66\xCF\x11\xA6\xD9\x00\xAA\x00\x62\xCE\x6C",
		"video/x-ms-asf"),
	PATTERN(0, "\0\0\1\xBA", "video/mpeg"),
	PATTERN(0, "\0\0\1\xB3", "video/mpeg"),
	/* documents */
	PATTERN(0, "%PDF-", "application/pdf"),
	PATTERN(0, "%!PS-Adobe-", "application/postscript"),
	PATTERN(0, "\xC5\xD0\xD3\xC6", "application/postscript"),
	PATTERN(0, "{\\rtf", "application/rtf"),
	PATTERN(0, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "application/x-ole-storage"),
	PATTERN(0, "ITSF\3\0\0\0", "application/vnd.ms-htmlhelp"),
	/* archives and compressed files; ZIP has a matcher */
	PATTERN(0, "\x1F\x8B\x08", "application/gzip"),
	PATTERN(0,
		"\xFD"
		"7zXZ\0",
		"application/x-xz"),
	PATTERN(0, "\x28\xB5\x2F\xFD", "application/zstd"),
	PATTERN(0, "7z\xBC\xAF\x27\x1C", "application/x-7z-compressed"),
	PATTERN(0, "Rar!\x1A\x07\0", "application/vnd.rar"),
	PATTERN(0, "Rar!\x1A\x07\1\0", "application/vnd.rar"),
	PATTERN(0, "\x04\x22\x4D\x18", "application/x-lz4"),
	PATTERN(0, "LZIP\1", "application/x-lzip"),
	PATTERN(0, "MSCF\0\0\0\0", "application/vnd.ms-cab-compressed"),
	PATTERN(0, "!<arch>\ndebian-binary", "application/vnd.debian.binary-package"),
	PATTERN(0, "!<arch>\n", "application/x-archive"),
	PATTERN(0, "\xED\xAB\xEE\xDB", "application/x-redhat-package-manager"),
	PATTERN(257, "ustar\0", "application/x-tar"),
	PATTERN(257, "ustar  \0", "application/x-tar"),
	/* programs, fonts, databases */
	PATTERN(0, "\0asm", "application/wasm"),
	PATTERN(0,
		"\x7F"
		"ELF",
		"application/x-elf"),
	PATTERN(0, "\xCF\xFA\xED\xFE", "application/x-mach-binary"),
	PATTERN(0, "\xCE\xFA\xED\xFE", "application/x-mach-binary"),
	PATTERN(0, "dex\n03", "application/x-dex"),
	PATTERN(0, "wOFF", "font/woff"),
	PATTERN(0, "wOF2", "font/woff2"),
	PATTERN(0, "OTTO\0", "font/otf"),
	PATTERN(0, "ttcf\0", "font/collection"),
	PATTERN(0, "SQLite format 3\0", "application/vnd.sqlite3"),
	PATTERN(0, "PAR1", "application/vnd.apache.parquet"),
	PATTERN(0, "\x89HDF\r\n\x1A\n", "application/x-hdf5"),
	PATTERN(0, "glTF\2\0\0\0", "model/gltf-binary"),
	PATTERN(0, "d8:announce", "application/x-bittorrent"),
	PATTERN(128, "DICM", "application/dicom"),
};

bool media_has(const unsigned char *head, size_t n, size_t at, const char *bytes, size_t length)
{
	return at <= n && length <= n - at && memcmp(head + at, bytes, length) == 0;
}

static unsigned le16(const unsigned char *p)
{
	return p[0] | (unsigned)p[1] << 8;
}

static uint32_t le32(const unsigned char *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static unsigned be16(const unsigned char *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

/* "BM", the file's size, two zero words, the offset of the pixels, and the size of one of the headers that exist. */
static const char *match_bmp(const unsigned char *head, size_t n)
{
	if (n < 18 || memcmp(head, "BM", 2) != 0 || le32(head + 6) != 0)
		return NULL;
	uint32_t size = le32(head + 14);
	bool known = size == 12 || size == 16 || size == 40 || size == 52 || size == 56 ||
		     size == 64 || size == 108 || size == 124;
	return known ? "image/bmp" : NULL;
}

/* An icon or a cursor: at least one picture, and the first one's reserved byte zero and its size not. */
static const char *match_icon(const unsigned char *head, size_t n)
{
	if (n < 22 || le16(head) != 0 || (le16(head + 2) != 1 && le16(head + 2) != 2))
		return NULL;
	unsigned count = le16(head + 4);
	uint32_t bytes = le32(head + 14), offset = le32(head + 18);
	return count > 0 && head[9] == 0 && bytes > 0 && offset >= 6 + 16 * count
		       ? "image/vnd.microsoft.icon"
		       : NULL;
}

static const char *match_riff(const unsigned char *head, size_t n)
{
	if (MEDIA_HAS(head, n, 0, "RIFF")) {
		if (MEDIA_HAS(head, n, 8, "WEBPVP"))
			return "image/webp";
		if (MEDIA_HAS(head, n, 8, "WAVE"))
			return "audio/wav";
		if (MEDIA_HAS(head, n, 8, "AVI "))
			return "video/x-msvideo";
	}
	if (MEDIA_HAS(head, n, 0, "FORM") &&
	    (MEDIA_HAS(head, n, 8, "AIFF") || MEDIA_HAS(head, n, 8, "AIFC")))
		return "audio/aiff";
	return NULL;
}

/* bzip2: "BZh", the block size, and the mark of a first block or of the end of an empty file. */
static const char *match_bzip2(const unsigned char *head, size_t n)
{
	if (!MEDIA_HAS(head, n, 0, "BZh") || n < 10 || head[3] < '1' || head[3] > '9')
		return NULL;
	return MEDIA_HAS(head, n, 4, "\x31\x41\x59\x26\x53\x59") ||
			       MEDIA_HAS(head, n, 4, "\x17\x72\x45\x38\x50\x90")
		       ? "application/x-bzip2"
		       : NULL;
}

/* TrueType: the version, then a count of tables that its searchRange agrees with. */
static const char *match_truetype(const unsigned char *head, size_t n)
{
	if (!MEDIA_HAS(head, n, 0, "\0\1\0\0") || n < 12)
		return NULL;
	unsigned tables = be16(head + 4), range = 16;
	while (range * 2 <= tables * 16)
		range *= 2;
	return tables > 0 && be16(head + 6) == range ? "font/ttf" : NULL;
}

/* WHATWG §6.3: 34 bytes of anything, then "LP"; the version at 8 makes that believable. */
static const char *match_eot(const unsigned char *head, size_t n)
{
	if (n < 36 || memcmp(head + 34, "LP", 2) != 0)
		return NULL;
	uint32_t version = le32(head + 8);
	return version == 0x00010000 || version == 0x00020001 || version == 0x00020002
		       ? "application/vnd.ms-fontobject"
		       : NULL;
}

/* "MZ" alone begins many a text: the PE header that it points to must be there. */
static const char *match_windows_program(const unsigned char *head, size_t n)
{
	if (n < 64 || memcmp(head, "MZ", 2) != 0)
		return NULL;
	return MEDIA_HAS(head, n, le32(head + 60), "PE\0\0")
		       ? "application/vnd.microsoft.portable-executable"
		       : NULL;
}

/* A class file and a fat Mach-O share their magic: class versions begin at 45, nobody has built for 45 processors. */
static const char *match_cafebabe(const unsigned char *head, size_t n)
{
	if (!MEDIA_HAS(head, n, 0, "\xCA\xFE\xBA\xBE") || n < 8)
		return NULL;
	return be16(head + 4) == 0 && be16(head + 6) < 45 ? "application/x-mach-binary"
							  : "application/java-vm";
}

static const char *match_pattern(const unsigned char *head, size_t n)
{
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		const struct pattern *p = &patterns[i];
		if (media_has(head, n, p->offset, p->bytes, p->length))
			return p->type;
	}
	return NULL;
}

const char *media_type_by_signature(const unsigned char *head, size_t n)
{
	static const char *(*const matchers[])(const unsigned char *head, size_t n) = {
		match_pattern,
		media_match_iso_bmff,
		media_match_zip,
		match_riff,
		media_match_matroska,
		media_match_ogg,
		media_match_markup,
		media_match_mpeg_audio,
		media_match_mpeg_ts,
		match_bzip2,
		match_bmp,
		match_icon,
		match_truetype,
		match_eot,
		match_windows_program,
		match_cafebabe,
	};
	if (n > MEDIA_TYPE_SNIFF_LEN)
		n = MEDIA_TYPE_SNIFF_LEN;
	const char *type = NULL;
	for (size_t i = 0; type == NULL && i < sizeof(matchers) / sizeof(matchers[0]); i++)
		type = matchers[i](head, n);
	return type;
}
