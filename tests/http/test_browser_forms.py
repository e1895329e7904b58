"""Forms byte by byte as browsers and HTTP libraries send them: each client's boundary, headers, quoting and habits.

Every case sends the same three things, as far as the client can: the text field tags = q4, a text field note, and files;
what differs is how the client writes them down.
"""

import unittest

from depot_case import BROWSER, GIF, PNG, DepotCase, sha256


def lines(*parts):
    """The parts as lines that end in CR LF."""
    return b"".join((p if isinstance(p, bytes) else p.encode("utf-8")) + b"\r\n" for p in parts)


class FormsOfClients(DepotCase):
    def send(self, type, body, headers=(), target="/files"):
        pairs = [("Content-Type", type)] + list(headers.items() if hasattr(headers, "items") else headers)
        return self.request("POST", target, pairs, body)

    def stored(self, type, body, **options):
        response = self.send(type, body, **options)
        self.assertEqual(response.status, 201, repr(response))
        return response.json()["files"]

    def assert_is(self, file, name, data, type=None, tags=("q4",), attributes=None):
        self.assertEqual((file["name"], file["sha256"], file["size"]), (name, sha256(data), len(data)))
        self.assertEqual(file["tags"], list(tags))
        if type is not None:
            self.assertEqual(file["type"].split(";")[0], type)
        if attributes is not None:
            self.assertEqual(file["attributes"], attributes)
        self.assertEqual(self.content(file), data)

    # --- browsers ---

    def test_a_fetch_of_chrome_with_formdata_is_stored(self):
        b = "----WebKitFormBoundaryePkpFF7tjBAqx29L"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="Screenshot 2026-11-22 at 10.00.00.png"',
                     "Content-Type: image/png", "", PNG,
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="quo%22te & résumé 😀.txt"',
                     "Content-Type: text/plain", "", "text",
                     "--" + b, 'Content-Disposition: form-data; name="note"', "", "first line\r\nsecond line",
                     "--" + b + "--")
        first, second = self.stored("multipart/form-data; boundary=" + b, body, headers={"Accept": "*/*"})
        note = {"note": "first line\r\nsecond line"}
        self.assert_is(first, "Screenshot 2026-11-22 at 10.00.00.png", PNG, "image/png", attributes=note)
        self.assert_is(second, 'quo"te & résumé 😀.txt', b"text", "text/plain", attributes=note)

    def test_a_plain_form_of_chrome_is_sent_on_by_303(self):
        b = "----WebKitFormBoundary7MA4YWxkTrZu0gW0"
        body = lines("--" + b, 'Content-Disposition: form-data; name="file"; filename="plain-form-of-chrome.txt"',
                     "Content-Type: text/plain", "", "hello",
                     "--" + b, 'Content-Disposition: form-data; name="tags"', "", "",
                     "--" + b + "--")
        accept = ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
                  "application/signed-exchange;v=b3;q=0.7")
        response = self.send("multipart/form-data; boundary=" + b, body, target="/", headers={
            "Accept": accept, "Origin": "http://%s:%d" % self.address, "Sec-Fetch-Site": "same-origin",
            "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Upgrade-Insecure-Requests": "1",
            "Cache-Control": "max-age=0"})
        self.assertEqual(response.status, 303, repr(response))
        (file,) = self.get_json("/files?name=plain-form-of-chrome.txt")["files"]
        self.assert_is(file, "plain-form-of-chrome.txt", b"hello", tags=())

    def test_a_folder_input_of_chrome_sends_paths_that_are_cut(self):
        b = "----WebKitFormBoundaryTT0TgVTCI3iAXuWo"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="photos/summer/beach.gif"',
                     "Content-Type: image/gif", "", GIF, "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "beach.gif", GIF, "image/gif")

    def test_a_blob_of_chrome_without_a_name_is_called_blob(self):
        b = "----WebKitFormBoundaryAAAABBBBCCCCDDDD"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="blob"',
                     "Content-Type: application/octet-stream", "", b"\1\2", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "blob", b"\1\2", "application/octet-stream")

    def test_a_form_of_firefox_of_today_is_stored(self):
        b = "----geckoformboundary8e3d7a1b9c5f4e2d8a6b0c1d2e3f4a5b"
        body = lines("--" + b, 'Content-Disposition: form-data; name="file"; filename="naïve %22file%22.txt"',
                     "Content-Type: text/plain", "", "x",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename=""',
                     "Content-Type: application/octet-stream", "", "",
                     "--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, 'naïve "file".txt', b"x", "text/plain", attributes={})

    def test_a_form_of_firefox_with_a_boundary_of_dashes_and_digits_is_stored(self):
        b = "---------------------------735323031399963166993862150"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="a.bin"',
                     "Content-Type: application/octet-stream",
                     "", b"-----------------------------7353230313999631669938621", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "a.bin", b"-----------------------------7353230313999631669938621")

    def test_a_form_of_old_firefox_escapes_quotes_by_a_backslash(self):
        b = "---------------------------41184676334"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="say \\"hi\\".txt"',
                     "Content-Type: text/plain", "",
                     "hi", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, 'say "hi".txt', b"hi")

    def test_a_form_of_safari_on_a_mac_has_decomposed_names(self):
        b = "----WebKitFormBoundaryqEsh9p6Ryw4CE3Bk"
        name = "U\u0308bersicht fu\u0308r Zoe\u0308.txt"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="%s"' % name, "Content-Type: text/plain",
                     "", "ü",
                     "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, name, "ü".encode())

    def test_a_form_of_internet_explorer_6_has_whole_paths(self):
        b = "---------------------------7d81b41a50482"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; '
                     'filename="C:\\Documents and Settings\\Administrator\\Desktop\\new table.gif"', "Content-Type: image/gif",
                     "", GIF,
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="\\\\nas\\public\\readme"',
                     "Content-Type: text/plain", "", "x", "--" + b + "--")
        first, second = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(first, "new table.gif", GIF, "image/gif")
        self.assert_is(second, "readme", b"x")

    def test_a_form_of_internet_explorer_8_has_types_of_its_own(self):
        b = "---------------------------7da24f2e50046"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="shot.png"', "Content-Type: image/x-png",
                     "", PNG,
                     "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "shot.png", PNG, "image/png")

    def test_a_file_input_left_alone_in_internet_explorer_is_no_file(self):
        b = "---------------------------7da24f2e50047"
        body = lines("--" + b, 'Content-Disposition: form-data; name="file"; filename=""',
                     "Content-Type: application/octet-stream", "", "",
                     "--" + b + "--")
        response = self.send("multipart/form-data; boundary=" + b, body, headers=BROWSER)
        self.assertEqual(response.status, 400)

    # --- command line tools and libraries ---

    def test_a_form_of_curl_is_stored(self):
        b = "------------------------d74496d66958873e"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="a%22b.txt"', "Content-Type: text/plain",
                     "", "x",
                     "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body, headers={"User-Agent": "curl/8.5.0", "Accept": "*/*"})
        self.assert_is(file, 'a"b.txt', b"x", "text/plain")

    def test_a_form_of_curl_before_7_81_escapes_by_backslashes(self):
        b = "------------------------0123456789abcdef"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="a\\"b.txt"',
                     "Content-Type: application/octet-stream",
                     "", "x", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, 'a"b.txt', b"x")

    def test_a_form_of_python_requests_is_stored(self):
        b = "a7f7ac8d4e2e437c877bb7b8d7cc549c"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="résumé.txt"', "", "x", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "résumé.txt", b"x")

    def test_a_form_of_old_python_requests_has_filename_star_alone(self):
        b = "c0c46a5929c2ce4c935c9cff85bf11d4"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, "Content-Disposition: form-data; name=\"file\"; filename*=utf-8''r%C3%A9sum%C3%A9.txt", "", "x",
                     "--" + b + "--", "")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "résumé.txt", b"x")

    def test_a_form_of_python_aiohttp_puts_the_type_first_and_a_length_in_each_part(self):
        b = "dd7e7b6a5b4b4f2c8b1a0c9d8e7f6a5b"
        body = lines("--" + b, "Content-Type: text/plain; charset=utf-8", 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, "Content-Type: application/octet-stream",
                     "Content-Disposition: form-data; name=\"file\"; filename=\"r%C3%A9sum%C3%A9.txt\"; filename*=utf-8''r%C3%A9sum%C3%A9.txt",
                     "Content-Length: 1", "", "x", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "résumé.txt", b"x")

    def test_a_form_of_go_is_stored(self):
        b = "3b1a9e0c8d7f6e5d4c3b2a190807f6e5d4c3b2a1908f7e6d5c4b3a29181"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="say \\"hi\\" – 世界.bin"',
                     "Content-Type: application/octet-stream", "", b"\0\1", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, 'say "hi" – 世界.bin', b"\0\1")

    def test_a_form_of_dotnet_quotes_the_boundary_and_leaves_names_bare(self):
        b = "5b7f0e3c-2a51-4c1c-9e0b-0f7d7f3b1a2c"
        body = lines("--" + b, "Content-Type: text/plain; charset=utf-8", "Content-Disposition: form-data; name=tags", "", "q4",
                     "--" + b, "Content-Type: application/octet-stream",
                     "Content-Disposition: form-data; name=file; filename=a.bin; filename*=utf-8''a.bin", "", b"\0\1",
                     "--" + b + "--")
        (file,) = self.stored('multipart/form-data; boundary="%s"' % b, body)
        self.assert_is(file, "a.bin", b"\0\1")

    def test_a_form_of_dotnet_encodes_a_name_beyond_ascii_twice(self):
        b = "5b7f0e3c-2a51-4c1c-9e0b-0f7d7f3b1a2d"
        body = lines("--" + b, "Content-Disposition: form-data; name=tags", "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name=file; filename="=?utf-8?B?csOpc3Vtw6kudHh0?="; '
                     "filename*=utf-8''r%C3%A9sum%C3%A9.txt", "", "x", "--" + b + "--")
        (file,) = self.stored('multipart/form-data; boundary="%s"' % b, body)
        self.assert_is(file, "résumé.txt", b"x")

    def test_a_form_of_node_form_data_is_stored(self):
        b = "--------------------------515890814546601021194782"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="a.txt"', "Content-Type: text/plain", "",
                     "x",
                     "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "a.txt", b"x", "text/plain")

    def test_a_form_of_node_undici_is_stored(self):
        b = "----formdata-undici-036743728467"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="résumé.txt"', "Content-Type: text/plain",
                     "", "x",
                     "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "résumé.txt", b"x")

    def test_a_form_of_okhttp_has_a_length_in_each_part(self):
        b = "29ce2f8a-9e4b-4a5c-b0d8-1a2b3c4d5e6f"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "Content-Length: 2", "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="a.txt"',
                     "Content-Type: text/plain; charset=utf-8",
                     "Content-Length: 1", "", "x", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "a.txt", b"x", "text/plain")

    def test_a_form_of_apache_httpclient_declares_transfer_encodings(self):
        b = "_Zb8mNKT2dFdmLRzqCkzhJmCwG5NXcFZ-v"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "Content-Type: text/plain; charset=ISO-8859-1",
                     "Content-Transfer-Encoding: 8bit", "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="a.bin"',
                     "Content-Type: application/octet-stream",
                     "Content-Transfer-Encoding: binary", "", b"\0\1", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "a.bin", b"\0\1")

    def test_a_form_of_dart_has_its_headers_in_lower_case(self):
        b = "dart-http-boundary-uYKPRfPFnJ+ZwaqSnJbTr4ZFhSfYhH6vvpKj6lHj4bDGZ.Wr7Ks"
        body = lines("--" + b, 'content-disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'content-disposition: form-data; name="note"', "content-type: text/plain; charset=utf-8",
                     "content-transfer-encoding: binary", "", "ünï",
                     "--" + b, "content-type: application/octet-stream",
                     'content-disposition: form-data; name="file"; filename="a.bin"', "",
                     b"\0\1", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "a.bin", b"\0\1", attributes={"note": "ünï"})

    def test_a_form_of_php_guzzle_is_stored(self):
        b = "e1c2a7c1f1f24f9d4f8f9e6b3f3b0d0d1c2b3a49"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "Content-Length: 2", "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="a.txt"', "Content-Length: 1",
                     "Content-Type: text/plain", "", "x", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "a.txt", b"x")

    def test_a_form_of_ruby_multipart_post_is_stored(self):
        b = "-----------RubyMultipartPost-4a2c7d1f0b9e8d7c6b5a4f3e2d1c0b9a"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="a.txt"', "Content-Length: 1",
                     "Content-Type: text/plain", "Content-Transfer-Encoding: binary", "",
                     "x") + b"--" + b.encode() + b"--\r\n\r\n"
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "a.txt", b"x")

    def test_a_form_of_perl_lwp_has_a_short_boundary(self):
        b = "xYzZY"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="a.txt"', "Content-Type: text/plain", "",
                     "xYzZY\r\n--xYzZ", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "a.txt", b"xYzZY\r\n--xYzZ")

    def test_a_form_of_rust_reqwest_has_filename_star_alone(self):
        b = "b2d4c5a6f7e80910-1a2b3c4d5e6f7081-9a8b7c6d5e4f3021-0f1e2d3c4b5a6978"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, "Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%E6%96%87%E6%9B%B8.txt",
                     "Content-Type: text/plain", "", "x", "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "文書.txt", b"x")

    def test_a_form_of_ios_alamofire_is_stored(self):
        b = "alamofire.boundary.c9d8e7f6a5b4c3d2"
        body = lines("--" + b, 'Content-Disposition: form-data; name="tags"', "", "q4",
                     "--" + b, 'Content-Disposition: form-data; name="file"; filename="IMG_0001.PNG"',
                     "Content-Type: image/png", "", PNG,
                     "--" + b + "--")
        (file,) = self.stored("multipart/form-data; boundary=" + b, body)
        self.assert_is(file, "IMG_0001.PNG", PNG, "image/png")

    def test_a_form_of_powershell_has_a_line_break_before_the_first_boundary(self):
        b = "1f0c4b7e-3f35-4f0e-9a77-4a7f44b0a6f3"
        body = b"\r\n" + lines("--" + b, "Content-Disposition: form-data; name=tags", "", "q4",
                               "--" + b, "Content-Type: application/octet-stream",
                               "Content-Disposition: form-data; name=file; filename=a.txt; filename*=utf-8''a.txt", "", "x",
                               "--" + b + "--")
        (file,) = self.stored('multipart/form-data; boundary="%s"' % b, body)
        self.assert_is(file, "a.txt", b"x")


if __name__ == "__main__":
    unittest.main()
