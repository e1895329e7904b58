"""DELETE: row and bytes go, others stay."""

import concurrent.futures
import subprocess
import tempfile
import unittest

import raw_http
from depot_case import UNKNOWN_ID, DepotCase, on_both_stores, pattern_bytes, wait_until

MIB = 1 << 20


@on_both_stores
class Removal(DepotCase):
    def test_a_removed_file_is_gone_at_every_door(self):
        file = self.put("removed.txt", b"removed")
        self.assertEqual(self.content(file), b"removed")
        response = self.request("DELETE", file["url"])
        self.assertEqual((response.status, response.body), (204, b""))
        for method, rest in (("GET", ""), ("HEAD", ""), ("GET", "/metadata"), ("PATCH", "/metadata"), ("DELETE", "")):
            with self.subTest(method=method, rest=rest):
                self.assertEqual(self.request(method, file["url"] + rest, (), b"{}" if method == "PATCH" else None).status, 404)
        self.assertEqual(self.get_json("/files?name=removed.txt")["files"], [])

    def test_its_bytes_leave_the_disk(self):
        before = self.server.stored_files()
        file = self.put("large.bin", pattern_bytes(2 * MIB))
        self.assertNotEqual(self.server.stored_files(), before)
        self.assertEqual(self.request("DELETE", file["url"]).status, 204)
        wait_until(lambda: self.server.stored_files() == before and not self.open_temporaries(), "the bytes are gone")

    def test_another_file_with_the_same_bytes_and_name_stays(self):
        first, second = self.put("twin.txt", b"twin"), self.put("twin.txt", b"twin")
        self.assertEqual(self.request("DELETE", first["url"]).status, 204)
        self.assertEqual(self.content(second), b"twin")

    def test_of_many_that_remove_the_same_file_exactly_one_does(self):
        for _ in range(5):
            url = self.put("contended.txt", b"x")["url"]

            def remove(_, url=url):
                with raw_http.Connection(self.address) as connection:
                    return connection.exchange("DELETE", url).status
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                self.assertEqual(sorted(pool.map(remove, range(8))), [204] + [404] * 7)

    def test_what_is_not_there_is_404(self):
        for id in (UNKNOWN_ID, "abc", "metadata"):
            self.assertEqual(self.request("DELETE", "/files/" + id).status, 404)
        self.assert_status(self.request("DELETE", "/files/%ff"), 400, 404)

    def test_a_download_under_way_gets_the_right_bytes_or_is_cut_off(self):
        data = pattern_bytes(16 * MIB)
        file = self.put("large.bin", data)
        connection = self.connect(receive_buffer=4096)
        connection.send(raw_http.encode_request("GET", file["url"]))
        response = connection.read_head()
        self.assertEqual(self.request("DELETE", file["url"]).status, 204)
        try:
            connection.read_body(response, "GET")
            self.assertTrue(response.body == data)
        except raw_http.ConnectionEnded as ended:
            self.assertTrue(data.startswith(ended.got))

    def test_a_removal_is_there_after_a_restart(self):
        file = self.put("removed.txt", b"removed")
        self.assertEqual(self.request("DELETE", file["url"]).status, 204)
        self._drop_connection()
        self.server.stop()
        self.server.start()
        self.assertEqual(self.get(file["url"]).status, 404)

    def test_the_collection_and_the_page_cannot_be_removed(self):
        for target in ("/files", "/"):
            self.assert_refused(self.request("DELETE", target), status=405)


class FullDisk(DepotCase):
    # The embedded database stands on the same disk by default, and its log had no room for the very change that makes room.
    def test_a_disk_that_is_full_to_the_last_block_still_takes_removals(self):
        with tempfile.TemporaryDirectory(prefix="depotd-full-") as directory:
            if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "depotd-test", directory],
                              stderr=subprocess.DEVNULL).returncode != 0:
                self.skipTest("mounting is not allowed here")
            try:
                self.fill_and_remove(directory)
            finally:
                subprocess.run(["umount", "-l", directory], check=True)

    def fill_and_remove(self, directory):
        with self.own_server({"storage.reserve": "0"}, data_dir=directory + "/data",
                             database="sqlite:%s/metadata.db" % directory):
            file = self.put("large.bin", pattern_bytes(4 * MIB))
            try:
                with open(directory + "/others", "wb", buffering=0) as others:
                    while True:
                        others.write(b"x" * 4096)
            except OSError:
                pass
            self.assertEqual(self.request("DELETE", file["url"]).status, 204)
            self.put("small.bin", b"there is room again")


if __name__ == "__main__":
    unittest.main()
