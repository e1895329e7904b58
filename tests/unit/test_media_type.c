/* What a file is called, by bytes, name and client; and what may be shown inline. */
#include <stdio.h>

#include "../../src/model/media_private.h"
#include "depotd/base/embedded.h"
#include "depotd/model/media_type.h"
#include "unit.h"

#define BYTES(literal) (const unsigned char *)(literal), sizeof(literal) - 1

static void assert_signature(const unsigned char *head, size_t n, const char *expected)
{
	const char *type = media_type_by_signature(head, n);
	if (expected == NULL ? type != NULL : type == NULL || strcmp(type, expected) != 0)
		fail_msg("%.16s…: %s instead of %s", (const char *)head,
			 type != NULL ? type : "nothing", expected != NULL ? expected : "nothing");
}

static void decide(const unsigned char *head, size_t n, const char *name, const char *client,
		   const char *type, const char *sniffed)
{
	struct media_type_verdict verdict = media_type_decide(head, n, true, name, client);
	if (strcmp(verdict.type, type) != 0)
		fail_msg("%s: %s instead of %s", name, verdict.type, type);
	if (sniffed == NULL ? verdict.sniffed != NULL
			    : verdict.sniffed == NULL || strcmp(verdict.sniffed, sniffed) != 0)
		fail_msg("%s: sniffed %s", name,
			 verdict.sniffed != NULL ? verdict.sniffed : "nothing");
}

static void every_format_is_known_by_its_first_bytes(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		size_t n;
		const char *type;
	} rows[] = {
#define ROW(bytes, type) {bytes, sizeof(bytes) - 1, type}
		ROW("\x89PNG\r\n\x1A\n\0\0\0\rIHDR", "image/png"),
		ROW("\xFF\xD8\xFF\xE0\0\x10JFIF", "image/jpeg"),
		ROW("GIF89a\1\0\1\0", "image/gif"),
		ROW("GIF87a\1\0\1\0", "image/gif"),
		ROW("RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
		ROW("BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "image/bmp"),
		ROW("\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0",
		    "image/vnd.microsoft.icon"),
		ROW("II*\0\x08\0\0\0", "image/tiff"),
		ROW("MM\0*\0\0\0\x08", "image/tiff"),
		ROW("8BPS\0\1\0\0", "image/vnd.adobe.photoshop"),
		ROW("\0\0\0\x1C"
		    "ftypavif\0\0\0\0avifmif1miaf",
		    "image/avif"),
		ROW("\0\0\0\x18"
		    "ftypheic\0\0\0\0mif1heic",
		    "image/heic"),
		ROW("\0\0\0\x18"
		    "ftypmif1\0\0\0\0mif1heic",
		    "image/heic"),
		ROW("\0\0\0\x1C"
		    "ftypmif1\0\0\0\0mif1miafavif",
		    "image/avif"),
		ROW("\0\0\0\x14"
		    "ftypmif1\0\0\0\0mif1",
		    "image/heif"),
		ROW("\0\0\0\x20"
		    "ftypisom\0\0\2\0isomiso2avc1mp41",
		    "video/mp4"),
		ROW("\0\0\0\x18"
		    "ftypmp42\0\0\0\0mp42isom",
		    "video/mp4"),
		ROW("\0\0\0\x14"
		    "ftypqt  \0\0\0\0qt  ",
		    "video/quicktime"),
		ROW("\0\0\0\x14"
		    "ftypM4A \0\0\0\0M4A ",
		    "audio/mp4"),
		ROW("\0\0\0\x14"
		    "ftyp3gp5\0\0\0\0isom",
		    "video/3gpp"),
		ROW("\0\0\0\x6C"
		    "moov\0\0\0\0",
		    "video/quicktime"),
		ROW("\0\0\0\x0CJXL \r\n\x87\n", "image/jxl"),
		ROW("\x1A\x45\xDF\xA3\x9F\x42\x86\x81\1\x42\x82\x84webm\x42\x87", "video/webm"),
		ROW("\x1A\x45\xDF\xA3\xA3\x42\x86\x81\1\x42\x82\x88matroska", "video/x-matroska"),
		ROW("OggS\0\2\0\0\0\0\0\0\0\0\1\2\3\4\0\0\0\0\1\2\3\4\1\x1E\1vorbis", "audio/ogg"),
		ROW("OggS\0\2\0\0\0\0\0\0\0\0\1\2\3\4\0\0\0\0\1\2\3\4\1\x13OpusHead", "audio/ogg"),
		ROW("OggS\0\2\0\0\0\0\0\0\0\0\1\2\3\4\0\0\0\0\1\2\3\4\1\x2A\x80theora",
		    "video/ogg"),
		ROW("OggS\0\2\0\0\0\0\0\0\0\0\1\2\3\4\0\0\0\0\1\2\3\4\1\x2A????",
		    "application/ogg"),
		ROW("ID3\4\0\0\0\0\x0F\x76TSSE", "audio/mpeg"),
		ROW("RIFF\x24\x08\0\0WAVEfmt ", "audio/wav"),
		ROW("RIFF\x24\x08\0\0AVI LIST", "video/x-msvideo"),
		ROW("FORM\0\0\0\x10"
		    "AIFFCOMM",
		    "audio/aiff"),
		ROW("fLaC\0\0\0\x22", "audio/flac"),
		ROW("MThd\0\0\0\6\0\1", "audio/midi"),
		ROW("FLV\1\5", "video/x-flv"),
		ROW("\0\0\1\xBA\x44", "video/mpeg"),
		ROW("%PDF-1.7\n", "application/pdf"),
		ROW("%!PS-Adobe-3.0\n", "application/postscript"),
		ROW("{\\rtf1\\ansi", "application/rtf"),
		ROW("\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1\0\0", "application/x-ole-storage"),
		ROW("PK\3\4\x14\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\5\0\0\0a.txt",
		    "application/zip"),
		ROW("PK\5\6\0\0\0\0", "application/zip"),
		ROW("\x1F\x8B\x08\0", "application/gzip"),
		ROW("BZh91AY&SY\1\2", "application/x-bzip2"),
		ROW("BZh9\x17\x72\x45\x38\x50\x90\0\0", "application/x-bzip2"),
		ROW("\xFD"
		    "7zXZ\0\0\4",
		    "application/x-xz"),
		ROW("\x28\xB5\x2F\xFD\4", "application/zstd"),
		ROW("7z\xBC\xAF\x27\x1C\0\4", "application/x-7z-compressed"),
		ROW("Rar!\x1A\7\0\xCF", "application/vnd.rar"),
		ROW("Rar!\x1A\7\1\0", "application/vnd.rar"),
		ROW("!<arch>\ndebian-binary   ", "application/vnd.debian.binary-package"),
		ROW("\0asm\1\0\0\0", "application/wasm"),
		ROW("\x7F"
		    "ELF\2\1\1",
		    "application/x-elf"),
		ROW("\xCA\xFE\xBA\xBE\0\0\0\x34", "application/java-vm"),
		ROW("\xCA\xFE\xBA\xBE\0\0\0\2", "application/x-mach-binary"),
		ROW("wOFF\0\1\0\0", "font/woff"),
		ROW("wOF2\0\1\0\0", "font/woff2"),
		ROW("OTTO\0\x0B\0\x80", "font/otf"),
		ROW("\0\1\0\0\0\x0B\0\x80\0\3\0\x30", "font/ttf"),
		ROW("ttcf\0\1\0\0", "font/collection"),
		ROW("SQLite format 3\0\x10\0", "application/vnd.sqlite3"),
		ROW("PAR1\x15\0", "application/vnd.apache.parquet"),
#undef ROW
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		assert_signature((const unsigned char *)rows[i].bytes, rows[i].n, rows[i].type);
		/* Cut anywhere, it is that, or something vaguer, or nothing: never a crash. */
		for (size_t n = 0; n < rows[i].n; n++) {
			unsigned char *exact = malloc(n + (n == 0));
			memcpy(exact, rows[i].bytes, n);
			media_type_by_signature(exact, n);
			free(exact);
		}
	}
}

static void marks_far_inside_are_found(void **state)
{
	(void)state;
	unsigned char head[512] = "file.txt";
	memcpy(head + 257,
	       "ustar\0"
	       "00",
	       8);
	assert_signature(head, sizeof(head), "application/x-tar");
	memset(head, 0, sizeof(head));
	memcpy(head + 8, "\1\0\2\0", 4);
	memcpy(head + 34, "LP", 2);
	assert_signature(head, sizeof(head), "application/vnd.ms-fontobject");
	memset(head, 0, sizeof(head));
	memcpy(head, "MZ", 2);
	head[60] = 0x80;
	memcpy(head + 0x80, "PE\0\0", 4);
	assert_signature(head, sizeof(head), "application/vnd.microsoft.portable-executable");
	head[60] = 0xFF;
	head[63] = 0xFF;
	assert_signature(head, sizeof(head), NULL);
}

static void mpeg_audio_needs_frames_that_follow_each_other(void **state)
{
	(void)state;
	/* MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes a frame. */
	unsigned char head[4096] = {0};
	for (size_t at = 0; at + 4 <= sizeof(head); at += 417)
		memcpy(head + at, "\xFF\xFB\x90\x64", 4);
	assert_signature(head, sizeof(head), "audio/mpeg");
	assert_signature(head, 417 + 4, "audio/mpeg");
	assert_signature(head, 417, NULL);
	assert_signature(head, 4, NULL);
	head[417] = 0;
	assert_signature(head, sizeof(head), NULL);
	/* ADTS frames of 64 bytes. */
	memset(head, 0, sizeof(head));
	for (size_t at = 0; at + 7 <= sizeof(head); at += 64)
		memcpy(head + at, "\xFF\xF1\x50\x80\x08\x1F\xFC", 7);
	assert_signature(head, sizeof(head), "audio/aac");
	/* A UTF-16 text begins like a frame and is none. */
	assert_signature(BYTES("\xFF\xFEh\0e\0l\0l\0o\0"), NULL);
}

static void a_transport_stream_needs_four_packets(void **state)
{
	(void)state;
	unsigned char head[1024] = {0};
	for (size_t at = 0; at < sizeof(head); at += 188)
		head[at] = 0x47;
	assert_signature(head, sizeof(head), "video/mp2t");
	head[188] = 0;
	assert_signature(head, sizeof(head), NULL);
	assert_signature(BYTES("Good morning"), NULL);
}

static void words_that_only_begin_like_a_format_are_text(void **state)
{
	(void)state;
	static const char *const texts[] = {"BMW is a maker of cars, and of motorcycles too.",
					    "MZ is a maker of motorcycles",
					    "PK is my name",
					    "RIFF raff and company",
					    "BZh, said the bee, and flew away",
					    "ID3 tags are a nuisance",
					    "Rar! said the lion",
					    "GIF is a format",
					    "%PDF is a format",
					    "OggS",
					    "Girls and boys",
					    "a <b>bold</b> word",
					    "< html >",
					    "<3",
					    "<hello@example.org> wrote:",
					    ""};
	for (size_t i = 0; i < COUNT(texts); i++)
		assert_signature((const unsigned char *)texts[i], strlen(texts[i]), NULL);
}

static void html_is_found_by_its_tags(void **state)
{
	(void)state;
	static const char *const pages[] = {
		"<!DOCTYPE html><p>",
		"<!doctype HTML>\n",
		"  \n\t<html lang=en>",
		"<HEAD>",
		"<script>alert(1)</script>",
		"<iframe src=x>",
		"<h1>x",
		"<div class=x>",
		"<a href=x>",
		"<b>",
		"<br/>",
		"<p>",
		"<body\n>",
		"<!-- hello -->",
		"<!-- hello",
		"\xEF\xBB\xBF<html>",
		"<img src=x onerror=alert(1)>",
		"<!-- a --><!-- b --><!DOCTYPE html>",
	};
	for (size_t i = 0; i < COUNT(pages); i++)
		assert_signature((const unsigned char *)pages[i], strlen(pages[i]), "text/html");
}

static void xml_is_found_by_its_declaration(void **state)
{
	(void)state;
	assert_signature(BYTES("<?xml version=\"1.0\"?><note/>"), "text/xml");
	assert_signature(BYTES("\xEF\xBB\xBF<?xml version=\"1.0\"?>"), "text/xml");
	assert_signature(BYTES("<?xml"), "text/xml");
	assert_signature(BYTES("<?xml version='1.0'?><!DOCTYPE html><html>"),
			 "application/xhtml+xml");
}

static void svg_is_found_however_it_begins(void **state)
{
	(void)state;
	static const char *const pictures[] = {
		"<svg xmlns=\"http://www.w3.org/2000/svg\">",
		"<SVG>",
		"\n <svg\n",
		"<?xml version=\"1.0\"?>\n<svg>",
		"<?xml version=\"1.0\"?>\n<!-- made by hand -->\n<!DOCTYPE svg PUBLIC "
		"\"-//W3C//DTD SVG "
		"1.1//EN\" \"http://x/svg11.dtd\" [ <!ENTITY a \"]>\"> ]>\n<svg>",
		"<!-- a comment --><svg>",
		"<!DOCTYPE svg><svg>",
		"<?xml version=\"1.0\"?><?xml-stylesheet href=\"x\"?><svg:svg xmlns:svg=\"x\">",
	};
	for (size_t i = 0; i < COUNT(pictures); i++)
		assert_signature((const unsigned char *)pictures[i], strlen(pictures[i]),
				 "image/svg+xml");
}

static void an_office_document_is_found_inside_its_zip(void **state)
{
	(void)state;
#define ENTRY(length, name)                                                                        \
	"PK\3\4\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" length "\0\0\0" name
	assert_signature(BYTES(ENTRY("\x08", "mimetype") "application/epub+zipPK\3\4"),
			 "application/epub+zip");
	assert_signature(
		BYTES(ENTRY("\x08", "mimetype") "application/vnd.oasis.opendocument.textPK\3\4"),
		"application/vnd.oasis.opendocument.text");
	assert_signature(
		BYTES(ENTRY("\x08",
			    "mimetype") "application/vnd.oasis.opendocument.text-templatePK"),
		"application/zip");
	assert_signature(BYTES(ENTRY("\x13", "[Content_Types].xml") "...." ENTRY(
				 "\x11", "word/document.xml")),
			 "application/vnd.openxmlformats-officedocument.wordprocessingml.document");
	assert_signature(
		BYTES(ENTRY("\x13", "[Content_Types].xml") "...." ENTRY("\x0F", "xl/workbook.xml")),
		"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet");
	assert_signature(BYTES(ENTRY("\x14", "META-INF/MANIFEST.MF")), "application/java-archive");
	/* The name must be that long, not just what follows it. */
	assert_signature(BYTES(ENTRY("\x02", "word/document.xml")), "application/zip");
#undef ENTRY
}

static void only_the_first_part_of_the_head_is_looked_at(void **state)
{
	(void)state;
	static unsigned char head[MEDIA_TYPE_SNIFF_LEN + 64];
	memset(head, ' ', sizeof(head));
	memcpy(head + MEDIA_TYPE_SNIFF_LEN, "<html>", 6);
	assert_signature(head, sizeof(head), NULL);
}

/* --- by extension --- */

static void assert_extension(const char *name, const char *expected)
{
	const char *type = media_type_by_extension(name);
	if (expected == NULL)
		assert_null(type);
	else
		assert_string_equal(type != NULL ? type : "nothing", expected);
}

static void the_last_extension_counts_in_any_case(void **state)
{
	(void)state;
	assert_extension("README.txt", "text/plain");
	assert_extension("PHOTO.JPG", "image/jpeg");
	assert_extension("a.b.c.Pdf", "application/pdf");
	assert_extension("archive.tar.gz", "application/gzip");
	assert_extension("data.csv", "text/csv");
	assert_extension("data.json", "application/json");
	assert_extension("page.html", "text/html");
	assert_extension("report.docx",
			 "application/vnd.openxmlformats-officedocument.wordprocessingml.document");
}

static void modern_extensions_are_known(void **state)
{
	(void)state;
	assert_extension("x.webp", "image/webp");
	assert_extension("x.avif", "image/avif");
	assert_extension("x.md", "text/markdown");
	assert_extension("x.mjs", "text/javascript");
	assert_extension("x.jsonl", "application/jsonl");
	assert_extension("x.yaml", "application/yaml");
	assert_extension("x.toml", "application/toml");
	assert_extension("x.zst", "application/zstd");
	assert_extension("x.7z", "application/x-7z-compressed");
	assert_extension("x.ts", "text/typescript");
	assert_extension("x.wav", "audio/wav");
}

static void a_name_without_an_extension_says_nothing(void **state)
{
	(void)state;
	static const char *const names[] = {"",
					    "README",
					    ".png",
					    "x.",
					    ".",
					    "x.nosuchextension",
					    "x.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
					    "x.\xC3\xA9"};
	for (size_t i = 0; i < COUNT(names); i++)
		assert_extension(names[i], NULL);
}

static void assert_table(const struct media_extension *table, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		assert_true(media_type_valid(table[i].type));
		if (i > 0)
			assert_true(strcmp(table[i - 1].extension, table[i].extension) < 0);
	}
}

static void both_tables_of_extensions_are_sorted_and_valid(void **state)
{
	(void)state;
	assert_true(media_extension_count > 500);
	assert_table(media_extensions, media_extension_count);
	assert_table(media_modern, media_modern_count);
}

/* --- validity --- */

static void a_type_is_two_tokens_and_parameters(void **state)
{
	(void)state;
	static const char *const right[] = {"text/plain",
					    "image/svg+xml",
					    "text/html;charset=utf-8",
					    "text/html; charset=\"utf-8\"",
					    "a/b ; c=d;e=\"f \\\" g\"",
					    "a/b;",
					    "x/*"};
	static const char *const wrong[] = {"",
					    "text",
					    "text/",
					    "/plain",
					    "text/plain/x",
					    "te xt/x",
					    "text /x",
					    "text/x y",
					    "text/x;a",
					    "text/x;a=",
					    "text/x;=b",
					    "text/x;a=\"b",
					    "text/x;a=\"\n\"",
					    "text/x\n",
					    " text/x",
					    "text/\xC3\xA9"};
	for (size_t i = 0; i < COUNT(right); i++) {
		if (!media_type_valid(right[i]))
			fail_msg("%s", right[i]);
	}
	for (size_t i = 0; i < COUNT(wrong); i++) {
		if (media_type_valid(wrong[i]))
			fail_msg("%s: valid", wrong[i]);
	}
	char text[MEDIA_TYPE_MAX + 2];
	memset(text, 'x', sizeof(text));
	text[1] = '/';
	text[MEDIA_TYPE_MAX + 1] = '\0';
	assert_false(media_type_valid(text));
	text[MEDIA_TYPE_MAX] = '\0';
	assert_true(media_type_valid(text));
}

/* --- text --- */

static void utf_8_without_binary_controls_is_text(void **state)
{
	(void)state;
	assert_true(media_type_looks_like_text(BYTES("hello\r\n\tworld\f \x1B[0m"), true));
	assert_true(media_type_looks_like_text(BYTES("\xEF\xBB\xBFna\xC3\xAFve"), true));
	assert_true(media_type_looks_like_text(BYTES(""), true));
	assert_false(media_type_looks_like_text(BYTES("a\0b"), true));
	assert_false(media_type_looks_like_text(BYTES("a\x08"), true));
	assert_false(media_type_looks_like_text(BYTES("caf\xE9"), true));
}

static void a_character_that_the_head_cuts_off_is_forgiven(void **state)
{
	(void)state;
	assert_true(media_type_looks_like_text(BYTES("na\xC3"), false));
	assert_true(media_type_looks_like_text(BYTES("\xF0\x9F\x98"), false));
	assert_false(media_type_looks_like_text(BYTES("na\xC3"), true));
	assert_false(media_type_looks_like_text(BYTES("\xE9\xE9\xE9 x"), false));
}

/* --- the decision --- */

static void the_signature_wins_over_name_and_client(void **state)
{
	(void)state;
	decide(BYTES("\x89PNG\r\n\x1A\n"), "x.jpg", "text/plain", "image/png", "image/png");
	decide(BYTES("%PDF-1.4"), "x.txt", NULL, "application/pdf", "application/pdf");
	decide(BYTES("<html>"), "x.txt", "text/plain", "text/html", "text/html");
}

static void the_name_wins_over_the_client(void **state)
{
	(void)state;
	decide(BYTES("a,b\n1,2\n"), "x.csv", "application/octet-stream", "text/csv", NULL);
	decide(BYTES("# Title\n"), "README.md", "text/html", "text/markdown", NULL);
	decide(BYTES("{}"), "x.json", NULL, "application/json", NULL);
	decide(BYTES("\1\2\3"), "x.png", NULL, "image/png", NULL);
}

static void the_clients_word_loses_its_parameters_and_case(void **state)
{
	(void)state;
	decide(BYTES("x"), "x", "Text/CSV; charset=utf-8", "text/csv", NULL);
	decide(BYTES("x"), "x", " application/vnd.Mine ", "application/vnd.mine", NULL);
	decide(BYTES("x"), "x", "text/csv;!!!", "text/csv", NULL);
}

static void where_nobody_knows_it_is_an_octet_stream(void **state)
{
	(void)state;
	static const char *const words[] = {NULL,          "", "nonsense", "text/", "text/html/x",
					    "text/html x", "/"};
	for (size_t i = 0; i < COUNT(words); i++)
		decide(BYTES("\1\2\3"), "x", words[i], "application/octet-stream", NULL);
	char longest[MEDIA_TYPE_MAX + 2];
	memset(longest, 'x', sizeof(longest));
	longest[1] = '/';
	longest[MEDIA_TYPE_MAX + 1] = '\0';
	decide(BYTES("\1"), "x", longest, "application/octet-stream", NULL);
	longest[MEDIA_TYPE_MAX] = '\0';
	decide(BYTES("\1"), "x", longest, longest, NULL);
}

static void text_is_sniffed_only_where_it_is_called_text(void **state)
{
	(void)state;
	decide(BYTES("hello\n"), "x.txt", NULL, "text/plain", "text/plain");
	decide(BYTES("hello\n"), "x", "text/plain; charset=utf-8", "text/plain", "text/plain");
	decide(BYTES("\1\2\3"), "x.txt", NULL, "text/plain", NULL);
	decide(BYTES("hello\n"), "x", NULL, "application/octet-stream", NULL);
	decide(BYTES(""), "x.txt", NULL, "text/plain", "text/plain");
}

static void an_extension_refines_the_container_it_is_built_on(void **state)
{
	(void)state;
	static const char zip[] = "PK\3\4";
	static const char ole[] = "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1";
	decide(BYTES(zip), "a.docx", NULL,
	       "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	       "application/zip");
	decide(BYTES(zip), "a.odt", NULL, "application/vnd.oasis.opendocument.text",
	       "application/zip");
	decide(BYTES(zip), "a.epub", NULL, "application/epub+zip", "application/zip");
	decide(BYTES(zip), "a.jar", NULL, "application/java-archive", "application/zip");
	decide(BYTES(zip), "a.apk", NULL, "application/vnd.android.package-archive",
	       "application/zip");
	decide(BYTES(zip), "a.png", NULL, "application/zip", "application/zip");
	decide(BYTES(zip), "a.html", NULL, "application/zip", "application/zip");
	decide(BYTES(ole), "a.doc", NULL, "application/msword", "application/x-ole-storage");
	decide(BYTES(ole), "a.xls", NULL, "application/vnd.ms-excel", "application/x-ole-storage");
	decide(BYTES(ole), "a.ppt", NULL, "application/vnd.ms-powerpoint",
	       "application/x-ole-storage");
	decide(BYTES(ole), "a.pdf", NULL, "application/x-ole-storage", "application/x-ole-storage");
	decide(BYTES("<?xml version='1.0'?><a/>"), "a.xml", NULL, "application/xml", "text/xml");
	decide(BYTES("<?xml version='1.0'?><a/>"), "a.gpx", NULL, "application/gpx+xml",
	       "text/xml");
	decide(BYTES("<!-- x -->\n# Title"), "a.md", NULL, "text/markdown", "text/html");
	decide(BYTES("\x1F\x8B\x08"), "a.tgz", NULL, "application/gzip", "application/gzip");
	decide(BYTES("\x1A\x45\xDF\xA3\x9F\x42\x82\x84webm"), "a.weba", NULL, "audio/webm",
	       "video/webm");
	decide(BYTES("\x1A\x45\xDF\xA3\x9F\x42\x82\x88matroska"), "a.mka", NULL, "audio/x-matroska",
	       "video/x-matroska");
	decide(BYTES("\0\0\0\x14"
		     "ftypisom\0\0\0\0isom"),
	       "a.m4a", NULL, "audio/mp4", "video/mp4");
}

static void only_harmless_signatures_may_be_shown_inline(void **state)
{
	(void)state;
	static const char *const yes[] = {"image/png",  "image/jpeg",      "image/gif",
					  "image/webp", "image/avif",      "video/mp4",
					  "audio/ogg",  "application/pdf", "text/plain",
					  "video/webm", "audio/mpeg"};
	static const char *const no[] = {
		"text/html",        "image/svg+xml",   "text/xml", "application/xhtml+xml",
		"application/xml",  "application/zip", "text/css", "text/javascript",
		"application/wasm", "image/",          "",         "application/octet-stream"};
	for (size_t i = 0; i < COUNT(yes); i++)
		assert_true(media_type_may_inline(yes[i]));
	for (size_t i = 0; i < COUNT(no); i++)
		assert_false(media_type_may_inline(no[i]));
	assert_false(media_type_may_inline(NULL));
}

/* Whatever the name claims: what is inline has a type that a browser does not run. */
static void no_name_makes_inline_bytes_into_a_document(void **state)
{
	(void)state;
	static const char *const heads[] = {"\x89PNG\r\n\x1A\n", "GIF89a", "%PDF-1.4", "fLaC",
					    "ID3\4\0\0\0\0\0\0", "plain"};
	static const char *const names[] = {"x.html", "x.svg", "x.xml", "x.xhtml",
					    "x.js",   "x.mht", "x.txt"};
	for (size_t i = 0; i < COUNT(heads); i++) {
		for (size_t k = 0; k < COUNT(names); k++) {
			struct media_type_verdict v = media_type_decide(
				(const unsigned char *)heads[i], i == 4 ? 10 : strlen(heads[i]),
				true, names[k], "text/html");
			if (!media_type_may_inline(v.sniffed))
				continue;
			assert_null(strstr(v.type, "html"));
			assert_null(strstr(v.type, "xml"));
			assert_null(strstr(v.type, "script"));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_format_is_known_by_its_first_bytes),
		cmocka_unit_test(marks_far_inside_are_found),
		cmocka_unit_test(mpeg_audio_needs_frames_that_follow_each_other),
		cmocka_unit_test(a_transport_stream_needs_four_packets),
		cmocka_unit_test(words_that_only_begin_like_a_format_are_text),
		cmocka_unit_test(html_is_found_by_its_tags),
		cmocka_unit_test(xml_is_found_by_its_declaration),
		cmocka_unit_test(svg_is_found_however_it_begins),
		cmocka_unit_test(an_office_document_is_found_inside_its_zip),
		cmocka_unit_test(only_the_first_part_of_the_head_is_looked_at),
		cmocka_unit_test(the_last_extension_counts_in_any_case),
		cmocka_unit_test(modern_extensions_are_known),
		cmocka_unit_test(a_name_without_an_extension_says_nothing),
		cmocka_unit_test(both_tables_of_extensions_are_sorted_and_valid),
		cmocka_unit_test(a_type_is_two_tokens_and_parameters),
		cmocka_unit_test(utf_8_without_binary_controls_is_text),
		cmocka_unit_test(a_character_that_the_head_cuts_off_is_forgiven),
		cmocka_unit_test(the_signature_wins_over_name_and_client),
		cmocka_unit_test(the_name_wins_over_the_client),
		cmocka_unit_test(the_clients_word_loses_its_parameters_and_case),
		cmocka_unit_test(where_nobody_knows_it_is_an_octet_stream),
		cmocka_unit_test(text_is_sniffed_only_where_it_is_called_text),
		cmocka_unit_test(an_extension_refines_the_container_it_is_built_on),
		cmocka_unit_test(only_harmless_signatures_may_be_shown_inline),
		cmocka_unit_test(no_name_makes_inline_bytes_into_a_document),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
