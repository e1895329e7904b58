"""The configuration of the real binary: sources, their order, mistakes, and what the commands say of themselves."""
import configparser
import os
import re
import tempfile
import unittest

from depotd_server import DepotdServer, run_depotd


class ConfigurationFile:
    """A configuration file for the length of a with block."""

    def __init__(self, text):
        self.text = text

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="depotd-config-")
        path = os.path.join(self.directory.name, "depotd.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.text)
        return path

    def __exit__(self, *ignored):
        self.directory.cleanup()


def effective(*flags, environment=None):
    """section.key → (value, origin), as `depotd config` prints them."""
    result = run_depotd("config", *flags, environment=environment)
    assert result.returncode == 0, result.stderr
    values, section = {}, ""
    for line in result.stdout.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line:
            key, rest = line.split(" = ", 1)
            value, origin = rest.rsplit(" ; ", 1)
            values["%s.%s" % (section, key)] = (value.strip(), origin)
    return values


class Configuration(unittest.TestCase):
    def assert_refused(self, result, status, message):
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stderr, "depotd: %s\n" % message)
        self.assertEqual(result.stdout, "")

    def test_config_prints_every_value_with_its_origin(self):
        with ConfigurationFile("[server]\nworkers = 8\n[storage]\ngrace = 2h\n") as path:
            values = effective("--config", path, "--listen", "127.0.0.1:0", environment={"DEPOTD_STORAGE_GRACE": "3h"})
        self.assertEqual(values["server.workers"], ("8", path + ":2"))
        self.assertEqual(values["storage.grace"], ("3h", "DEPOTD_STORAGE_GRACE"))
        self.assertEqual(values["server.listen"], ("127.0.0.1:0", "--listen"))
        self.assertEqual(values["log.level"], ("info", "default"))

    def test_config_prints_the_database_that_follows_from_the_data_directory(self):
        self.assertEqual(effective("--data-dir", "/srv/depot")["database.url"][0], "sqlite:/srv/depot/metadata.db")

    def test_config_masks_the_password_of_the_database(self):
        result = run_depotd("config", "--database", "postgresql://u:s3cret@h/d?password=s3cret")
        self.assertNotIn("s3cret", result.stdout)
        self.assertIn("postgresql://u:***@h/d?password=***", result.stdout)

    def test_what_config_prints_is_a_configuration_file(self):
        printed = run_depotd("config", "--listen", "[::1]:0", "--limits.max-upload", "5M").stdout
        with ConfigurationFile(printed) as path:
            again = effective("--config", path)
        self.assertEqual(again["server.listen"][0], "[::1]:0")
        self.assertEqual(again["limits.max_upload"][0], "5M")

    def test_the_sample_file_is_an_ini_file_that_changes_nothing(self):
        sample = run_depotd("config", "--sample").stdout
        parser = configparser.ConfigParser()
        parser.read_string(sample)
        self.assertIn("server", parser.sections())
        with ConfigurationFile(sample) as path:
            origins = {origin for _, origin in effective("--config", path).values()}
        self.assertEqual(origins, {"default"})

    def test_a_mistake_in_the_file_ends_the_start_with_1_and_names_the_line(self):
        with ConfigurationFile("[server]\n\nprot = 80\n") as path:
            result = run_depotd("serve", "--config", path)
            self.assertEqual(result.returncode, 1)
            self.assertRegex(result.stderr, r'^depotd: %s:3: no key "prot" in \[server\]; it has listen, .*\n$' % re.escape(path))
            self.assertEqual(result.stderr.count("\n"), 1)

    def test_a_bad_value_in_the_file_says_what_is_allowed(self):
        with ConfigurationFile("[log]\naccess = all\n") as path:
            self.assert_refused(run_depotd("serve", "--config=" + path), 1,
                                '%s:2: log.access: "all" is not allowed: it takes one of off, combined, json' % path)

    def test_a_file_that_is_named_and_missing_ends_the_start_with_1(self):
        self.assert_refused(run_depotd("serve", "--config", "/nonexistent/depotd.conf"), 1,
                            "configuration file /nonexistent/depotd.conf: No such file or directory")

    def test_a_bad_variable_ends_the_start_with_1_and_is_named(self):
        self.assert_refused(run_depotd("serve", environment={"DEPOTD_SERVER_WORKERS": "many"}), 1,
                            'DEPOTD_SERVER_WORKERS: server.workers: "many" is not allowed: it takes a whole number from 1 to 1024')

    def test_a_bad_flag_ends_the_start_with_2(self):
        self.assert_refused(run_depotd("serve", "--prot", "80"), 2, "--prot: no such flag; depotd serve --help lists them")
        self.assert_refused(run_depotd("serve", "--listen"), 2, "--listen: a value has to follow (ADDR:PORT)")
        self.assertEqual(run_depotd("serve", "--server.workers=0").returncode, 2)
        self.assertEqual(run_depotd("serve", "file").returncode, 2)
        self.assertEqual(run_depotd("serve", "--repair").returncode, 2)

    def test_a_malformed_database_url_is_a_bad_value_like_any_other_and_its_password_stays_secret(self):
        allowed = 'database.url: "…" is not allowed: it takes sqlite:PATH, or a connection string or URI as psql takes it'
        for url in ("postgresql://depotd:secret@[::1/depot", "mysql://depotd:secret@localhost/depot", "sqlite:",
                    "postgresql://localhost/depot?nonsense=secret", "host=localhost secret"):
            with self.subTest(url=url), ConfigurationFile("[database]\nurl = %s\n" % url) as path:
                self.assert_refused(run_depotd("serve", "--database", url), 2, "--database: " + allowed)
                self.assert_refused(run_depotd("migrate", environment={"DEPOTD_DATABASE_URL": url}), 1, "DEPOTD_DATABASE_URL: " + allowed)
                self.assert_refused(run_depotd("serve", "--config", path), 1, "%s:2: %s" % (path, allowed))

    def test_no_command_and_an_unknown_one_print_the_usage_and_end_with_2(self):
        for arguments in ([], ["sevre"], ["--frobnicate"]):
            result = run_depotd(*arguments)
            self.assertEqual(result.returncode, 2)
            self.assertIn("Usage: depotd COMMAND", result.stderr)
            self.assertEqual(result.stdout, "")

    def test_help_goes_to_standard_output_and_ends_with_0(self):
        for arguments in (["--help"], ["-h"], ["help"]):
            result = run_depotd(*arguments)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            for command in ("serve", "check", "reindex", "migrate", "config"):
                self.assertRegex(result.stdout, r"(?m)^  %s +\w" % command)

    def test_every_command_explains_itself_with_every_key(self):
        keys = effective().keys()
        for command in ("serve", "check", "reindex", "migrate", "config"):
            result = run_depotd(command, "--help")
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertIn("Usage: depotd %s" % command, result.stdout)
            for key in keys:
                self.assertIn("--%s " % key, result.stdout)

    def test_version_prints_one_line(self):
        result = run_depotd("--version")
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, r"^depotd \d+\.\d+\.\d+\n$")

    def test_accounts_say_that_they_are_not_built_yet(self):
        for command in ("user", "token"):
            self.assert_refused(run_depotd(command, "add", "x"), 2, "%s: not built yet" % command)
        self.assertEqual(run_depotd("serve", "--access.mode", "accounts", "--listen", "127.0.0.1:0").returncode, 1)

    def test_an_address_beyond_loopback_needs_the_access_mode_written_down(self):
        for address in ("0.0.0.0:0", "[::]:0"):
            result = run_depotd("serve", "--listen", "127.0.0.1:0", "--listen", address)
            self.assertEqual(result.returncode, 1)
            self.assertIn("%s can be reached from other machines: write down access.mode" % address, result.stderr)

    def test_an_open_access_mode_that_is_written_down_allows_any_address(self):
        with DepotdServer(listen="0.0.0.0:0", flags=["--access.mode", "open"]) as server:
            self.assertEqual(server.addresses[0][0], "0.0.0.0")

    def test_every_loopback_address_is_open_by_default(self):
        with DepotdServer(listen=["127.0.0.1:0", "127.1.2.3:0", "[::1]:0"]) as server:
            self.assertEqual([host for host, _ in server.addresses], ["127.0.0.1", "127.1.2.3", "::1"])

    def test_a_server_takes_its_settings_from_the_environment_too(self):
        with DepotdServer(environment={"DEPOTD_LIMITS_MAX_UPLOAD": "10"}) as server:
            self.assertEqual(server.request("PUT", "/files/a.txt", body=b"0123456789").status, 201)
            self.assertEqual(server.request("PUT", "/files/a.txt", body=b"0123456789a").status, 413)


if __name__ == "__main__":
    unittest.main()
