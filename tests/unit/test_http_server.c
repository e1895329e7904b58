/* The life of exchanges, seen from handlers and from the wire. */
#include "http_scene.h"

#include <sched.h>
#include <sys/mman.h>

static int usual(void **state)
{
	(void)state;
	scene_set(scene_config(), 3, 64);
	return 0;
}

static int strike(void **state)
{
	(void)state;
	scene_strike();
	return 0;
}

/* --- requests --- */

static void a_get_is_answered_from_memory_and_the_connection_lives_on(void **state)
{
	(void)state;
	int fd = client_connect();
	for (int i = 0; i < 3; i++) {
		client_send(fd, "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
		client_expect(fd, 200, "memory");
		client_send(fd, "GET /worker HTTP/1.1\r\nHost: a\r\n\r\n");
		client_expect(fd, 200, "worker");
	}
	close(fd);
}

static void head_is_served_by_gets_row_without_a_body(void **state)
{
	(void)state;
	struct answer a;
	int fd = client_connect();
	client_send(fd, "HEAD /memory HTTP/1.1\r\nHost: a\r\n\r\nHEAD /stream/1000000 "
			"HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_int_equal(client_read_as(fd, &a, true), 1);
	assert_int_equal(a.status, 200);
	assert_int_equal(a.length, 6);
	answer_release(&a);
	assert_int_equal(client_read_as(fd, &a, true), 1);
	assert_int_equal(a.length, 1000000);
	answer_release(&a);
	close(fd);
}

static void a_path_that_is_not_there_is_404_and_a_method_405_with_allow(void **state)
{
	(void)state;
	struct answer a;
	int fd = client_connect();
	client_send(fd, "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
	client_read(fd, &a);
	assert_int_equal(a.status, 404);
	assert_string_equal(answer_field(&a, "Content-Type"), "application/problem+json");
	answer_release(&a);
	client_send(fd, "DELETE /describe/a HTTP/1.1\r\nHost: a\r\n\r\n");
	client_read(fd, &a);
	assert_int_equal(a.status, 405);
	assert_string_equal(answer_field(&a, "Allow"), "GET, HEAD, PUT, OPTIONS");
	answer_release(&a);
	client_send(fd, "OPTIONS /describe/a HTTP/1.1\r\nHost: a\r\n\r\n");
	client_read(fd, &a);
	assert_int_equal(a.status, 204);
	assert_string_equal(answer_field(&a, "Allow"), "GET, HEAD, PUT, OPTIONS");
	answer_release(&a);
	client_send(fd, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
	client_expect(fd, 204, "");
	close(fd);
}

static void query_headers_and_peer_are_what_the_client_sent(void **state)
{
	(void)state;
	int fd = client_connect();
	client_send(fd, "GET http://h/describe/a%2Fb?x=1+2&y=%C3%A9&&z&=w HTTP/1.1\r\nHost: "
			"a\r\nX-Thing: 1\r\nx-thing:  2 \r\n\r\n");
	client_expect(fd, 200, "GET|/describe/a%2Fb|1, 2|x=1 2|y=\xC3\xA9|z=|=w|127.0.0.1");
	client_send(fd, "GET /describe/a?x=%zz HTTP/1.1\r\nHost: a\r\n\r\n");
	client_expect(fd, 400, NULL);
	client_send(fd, "GET /describe/%ff HTTP/1.1\r\nHost: a\r\n\r\n");
	client_expect(fd, 404, NULL);
	client_send(fd, "GET /describe/a%00b HTTP/1.1\r\nHost: a\r\n\r\n");
	client_expect(fd, 404, NULL);
	client_send(fd, "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
	client_expect(fd, 200, "memory");
	close(fd);
}

static void http_1_0_is_closed_unless_it_asks_to_stay(void **state)
{
	(void)state;
	int fd = client_connect();
	client_send(fd, "GET /memory HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	client_expect(fd, 200, "memory");
	client_send(fd, "GET /memory HTTP/1.0\r\n\r\n");
	client_expect(fd, 200, "memory");
	client_expect_end(fd);
	close(fd);
}

static void a_client_that_half_closes_gets_its_answer(void **state)
{
	(void)state;
	int fd = client_connect();
	client_send(fd, "PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
	shutdown(fd, SHUT_WR);
	client_expect(fd, 201, NULL);
	client_expect_end(fd);
	close(fd);
}

static void a_reply_field_with_a_line_end_becomes_500(void **state)
{
	(void)state;
	struct answer a;
	int fd = client_connect();
	client_send(fd, "GET /bad-header HTTP/1.1\r\nHost: a\r\n\r\n");
	client_read(fd, &a);
	assert_int_equal(a.status, 500);
	assert_null(answer_field(&a, "Set-Cookie"));
	answer_release(&a);
	close(fd);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	(void)state;
	enum { ROUNDS = 300 };
	struct buf text;
	int fd = client_connect();
	buf_init(&text, 1 << 20);
	for (int i = 0; i < ROUNDS; i++) {
		buf_printf(&text, "GET /describe/%d HTTP/1.1\r\nHost: a\r\n\r\n", i);
		buf_puts(&text, "GET /worker HTTP/1.1\r\nHost: a\r\n\r\n");
		buf_puts(&text,
			 "PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde");
		buf_puts(&text, "PUT /sink/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
				"chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
		buf_puts(&text, "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
	}
	client_send_n(fd, text.data, text.len);
	char uploaded[64];
	snprintf(uploaded, sizeof(uploaded), "5 %u", sum_of("abcde", 5, 0));
	for (int i = 0; i < ROUNDS; i++) {
		char described[64];
		snprintf(described, sizeof(described), "GET|/describe/%d|-|127.0.0.1", i);
		client_expect(fd, 200, described);
		client_expect(fd, 200, "worker");
		client_expect(fd, 201, uploaded);
		client_expect(fd, 201, uploaded);
		client_expect(fd, 200, "memory");
	}
	buf_release(&text);
	close(fd);
}

/* --- bodies --- */

static void a_body_in_single_bytes_arrives_whole(void **state)
{
	(void)state;
	static const char request[] =
		"PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n01234567890123456789";
	char expected[64];
	int fd = client_connect();
	snprintf(expected, sizeof(expected), "20 %u", sum_of("01234567890123456789", 20, 0));
	for (size_t i = 0; i < sizeof(request) - 1; i++)
		client_send_n(fd, request + i, 1);
	client_expect(fd, 201, expected);
	scene_wait(&scene.released, 1);
	assert_int_equal(scene.bodies, 1); /* small: in one stretch */
	close(fd);
}

/*
 * libmicrohttpd takes an urgent byte for an error of the connection and closes it as soon as it has read. The request that came
 * with it is with a worker by then.
 */
static void a_connection_that_breaks_with_its_request_ends_in_good_order(void **state)
{
	(void)state;
	static const char put[] =
		"PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello!";
	static const char part[] =
		"PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\nhello!";
	int fds[100];
	for (int i = 0; i < 100; i++) {
		const char *request = i % 2 ? put : part;
		fds[i] = client_connect();
		assert_true(send(fds[i], request, strlen(request), MSG_OOB | MSG_NOSIGNAL) > 0);
	}
	for (int i = 0; i < 100; i++) {
		char end;
		while (recv(fds[i], &end, 1, 0) > 0)
			;
		close(fds[i]);
	}
	assert_true(http_server_drain(scene.server, SCENE_DEADLINE_MS));
}

static void a_chunked_body_in_single_bytes_arrives_whole(void **state)
{
	(void)state;
	static const char request[] =
		"PUT /sink/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		"5;ext=\"x\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
	char expected[64];
	int fd = client_connect();
	snprintf(expected, sizeof(expected), "15 %u", sum_of("hello0123456789", 15, 0));
	for (size_t i = 0; i < sizeof(request) - 1; i++)
		client_send_n(fd, request + i, 1);
	client_expect(fd, 201, expected);
	client_send(fd, "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
	client_expect(fd, 200, "memory");
	close(fd);
}

static void a_megabyte_in_chunks_of_odd_sizes_arrives_whole(void **state)
{
	(void)state;
	size_t total = 0;
	uint32_t sum = 0, seed = 12345;
	char chunk[9000], expected[64];
	int fd = client_connect();
	client_send(fd, "POST /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
	while (total < 1 << 20) {
		seed = seed * 1103515245 + 12345;
		size_t n = 1 + seed / 65536 % (sizeof(chunk) - 100);
		int at = snprintf(chunk, 32, "%zx\r\n", n);
		for (size_t i = 0; i < n; i++)
			chunk[(size_t)at + i] = (char)(seed >> i % 24);
		sum = sum_of(chunk + at, n, sum);
		memcpy(chunk + at + n, "\r\n", 2);
		client_send_n(fd, chunk, (size_t)at + n + 2);
		total += n;
	}
	client_send(fd, "0\r\n\r\n");
	snprintf(expected, sizeof(expected), "%zu %u", total, sum);
	client_expect(fd, 201, expected);
	close(fd);
}

static void a_large_body_arrives_whole(void **state)
{
	(void)state;
	enum { SIZE = 40 * 1024 * 1024 };
	char head[128], expected[64];
	char *data = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		data[i] = (char)(i * 7 >> 3);
	int fd = client_connect();
	snprintf(head, sizeof(head),
		 "PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", (int)SIZE);
	client_send(fd, head);
	client_send_n(fd, data, SIZE);
	snprintf(expected, sizeof(expected), "%d %u", (int)SIZE, sum_of(data, SIZE, 0));
	client_expect(fd, 201, expected);
	client_send(fd, "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
	client_expect(fd, 200, "memory");
	free(data);
	close(fd);
}

/* Pushes ten megabytes of body against a refusal, then reads: the answer must be there. */
static void push_against_refusal(const char *target, int status, bool chunked)
{
	enum { SIZE = 10 * 1024 * 1024 };
	struct answer a;
	char head[256], *data = calloc(1, SIZE);
	int fd = client_connect();
	snprintf(head, sizeof(head), "PUT %s HTTP/1.1\r\nHost: a\r\n%s: %s\r\n\r\n%s", target,
		 chunked ? "Transfer-Encoding" : "Content-Length", chunked ? "chunked" : "10485760",
		 chunked ? "a00000\r\n" : "");
	client_send(fd, head);
	(void)client_push(fd, data, SIZE);
	client_read(fd, &a);
	assert_int_equal(a.status, status);
	assert_int_equal(a.got, a.length);
	answer_release(&a);
	free(data);
	close(fd);
}

static void a_refusal_before_the_body_is_read_with_ten_megabytes_in_flight(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		push_against_refusal("/refuse", 413, false);
		push_against_refusal("/memory", 405, false);
		push_against_refusal("/nowhere", 404, false);
	}
}

static void a_refusal_within_the_body_is_read_with_ten_megabytes_in_flight(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++)
		push_against_refusal("/refuse-body", 507, false);
	scene_wait(&scene.released, 5);
	assert_int_equal(scene.finished, 0);
}

static void a_refusal_of_a_chunked_body_is_read_too(void **state)
{
	(void)state;
	push_against_refusal("/refuse", 413, true);
	push_against_refusal("/refuse-body", 507, true);
}

static void the_connection_outlives_a_small_refused_body(void **state)
{
	(void)state;
	int fd = client_connect();
	for (int i = 0; i < 3; i++) {
		client_send(fd, "PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n"
				"GET /worker HTTP/1.1\r\nHost: smuggled\r\n\r\n\r\n");
		client_send(fd, "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
		client_expect(fd, 413, NULL);
		client_expect(fd, 200, "memory");
		client_send(
			fd,
			"PUT /refuse-body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
			"3\r\nabc\r\n0\r\n\r\nGET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
		client_expect(fd, 507, NULL);
		client_expect(fd, 200, "memory");
	}
	close(fd);
}

static void a_body_where_none_is_taken_is_413_unless_it_is_empty(void **state)
{
	(void)state;
	int fd = client_connect();
	client_send(fd, "GET /memory HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
	client_expect(fd, 413, NULL);
	client_send(fd, "GET /memory HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
	client_expect(fd, 200, "memory");
	client_send(
		fd,
		"GET /memory HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
	client_expect(fd, 200, "memory");
	close(fd);
}

static void malformed_chunking_is_400_and_closes(void **state)
{
	(void)state;
	static const char *const bodies[] = {"x\r\n",
					     "5\nhello\r\n0\r\n\r\n",
					     "5\r\nhelloX",
					     "-1\r\n",
					     "0x5\r\nhello\r\n0\r\n\r\n",
					     "5 \r\nhello\r\n0\r\n\r\n",
					     "ffffffffffffffff1\r\n",
					     "0\r\nbad trailer\r\n\r\n",
					     "5;a=\001\r\nhello\r\n0\r\n\r\n",
					     "5\r\nhello\n0\r\n\r\n"};
	for (size_t i = 0; i < COUNT(bodies); i++) {
		int fd = client_connect();
		client_send(
			fd,
			"PUT /sink/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
		client_send(fd, bodies[i]);
		client_send(fd, "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
		client_expect(fd, 400, NULL);
		client_expect_end(fd);
		close(fd);
	}
	scene_wait(&scene.released, (int)COUNT(bodies));
	assert_int_equal(scene.finished, 0);
}

/* --- Expect --- */

static void a_client_that_expects_100_gets_it_when_its_body_is_wanted(void **state)
{
	(void)state;
	struct answer a;
	int fd = client_connect();
	client_send(fd, "PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: "
			"100-Continue\r\n\r\n");
	client_read(fd, &a);
	assert_int_equal(a.status, 100);
	answer_release(&a);
	client_send(fd, "abc");
	client_expect(fd, 201, NULL);
	close(fd);
}

static void a_client_that_expects_100_gets_the_refusal_instead(void **state)
{
	(void)state;
	struct answer a;
	int fd = client_connect();
	client_send(fd, "PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: "
			"100-continue\r\n\r\n");
	client_read(fd, &a);
	assert_int_equal(a.status, 413);
	assert_string_equal(answer_field(&a, "Connection"), "close");
	answer_release(&a);
	close(fd);
}

static void no_100_is_sent_when_the_body_is_on_its_way(void **state)
{
	(void)state;
	int fd = client_connect();
	client_send(fd, "PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: "
			"100-continue\r\n\r\nabc");
	client_expect(fd, 201, NULL);
	close(fd);
}

static void another_expectation_is_417(void **state)
{
	(void)state;
	int fd = client_connect();
	client_send(
		fd,
		"PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: miracles\r\n\r\n");
	client_expect(fd, 417, NULL);
	close(fd);
}

/* --- answers --- */

static void check_pattern(const struct answer *a)
{
	assert_int_equal(a->got, a->length);
	for (size_t i = 0; i < a->got; i++) {
		if ((unsigned char)a->body[i] != i % 251)
			fail_msg("byte %zu", i);
	}
}

static void a_streamed_answer_arrives_whole_and_is_released(void **state)
{
	(void)state;
	static const int sizes[] = {1, 65535, 65536, 65537, 3000000};
	struct answer a;
	char request[128];
	int fd = client_connect();
	for (size_t i = 0; i < COUNT(sizes); i++) {
		snprintf(request, sizeof(request), "GET /stream/%d HTTP/1.1\r\nHost: a\r\n\r\n",
			 sizes[i]);
		client_send(fd, request);
		client_read(fd, &a);
		assert_int_equal(a.length, sizes[i]);
		check_pattern(&a);
		answer_release(&a);
	}
	scene_wait(&scene.released, (int)COUNT(sizes));
	close(fd);
}

static void a_streamed_answer_that_breaks_off_ends_the_connection(void **state)
{
	(void)state;
	struct answer a;
	int fd = client_connect();
	client_send(fd, "GET /stream/3000000?broken HTTP/1.1\r\nHost: a\r\n\r\n");
	client_read(fd, &a);
	assert_true(a.got < a.length);
	answer_release(&a);
	scene_wait(&scene.released, 1);
	close(fd);
}

static void a_stretch_of_a_file_is_sent_and_released(void **state)
{
	(void)state;
	enum { SIZE = 1 << 20 };
	struct answer a;
	unsigned char *data = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		data[i] = (unsigned char)(i % 251);
	scene.fd = memfd_create("file", MFD_CLOEXEC);
	assert_int_equal(write(scene.fd, data, SIZE), SIZE);
	int fd = client_connect();
	client_send(fd, "GET /file/502/900000 HTTP/1.1\r\nHost: a\r\n\r\nGET /file/0/0 "
			"HTTP/1.1\r\nHost: a\r\n\r\n");
	client_read(fd, &a);
	assert_int_equal(a.length, 900000);
	check_pattern(&a);
	answer_release(&a);
	client_expect(fd, 200, "");
	scene_wait(&scene.released, 2);
	free(data);
	close(fd);
}

static void a_deferred_answer_is_completed_from_another_thread(void **state)
{
	(void)state;
	int fd = client_connect();
	client_send(fd, "GET /defer HTTP/1.1\r\nHost: a\r\n\r\n");
	scene_wait(&scene.finished, 1);
	reply_memory(scene.deferred, "later", 5, NULL, NULL);
	exchange_complete(scene.deferred);
	client_expect(fd, 200, "later");
	client_send(fd, "GET /at-once HTTP/1.1\r\nHost: a\r\n\r\n");
	client_expect(fd, 200, "at once");
	scene_wait(&scene.released, 1);
	close(fd);
}

static void a_deferred_finish_is_called_again_from_another_thread(void **state)
{
	(void)state;
	int fd = client_connect();
	client_send(fd, "PUT /defer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nbytes"
			"GET /at-once HTTP/1.1\r\nHost: a\r\n\r\n");
	for (int i = 1; i <= 50; i++) {
		scene_wait(&scene.finished, i);
		exchange_again(scene.deferred);
	}
	scene_wait(&scene.finished, 51);
	reply_memory(scene.deferred, "later", 5, NULL, NULL);
	exchange_complete(scene.deferred);
	client_expect(fd, 200, "later");
	client_expect(fd, 200, "at once");
	scene_wait(&scene.released, 1);
	close(fd);
}

static void a_finish_may_ask_to_be_called_again_before_it_returns(void **state)
{
	(void)state;
	int fd = client_connect();
	client_send(fd, "GET /again HTTP/1.1\r\nHost: a\r\n\r\n");
	client_expect(fd, 200, "at last");
	scene_wait(&scene.finished, 4);
	close(fd);
}

/* --- clients that leave --- */

static void a_client_that_leaves_before_or_within_a_head_leaves_nothing_behind(void **state)
{
	(void)state;
	static const char *const pieces[] = {"", "G", "GET /memory HTTP/1.1\r\n",
					     "GET /memory HTTP/1.1\r\nHost: a\r\n\r"};
	for (size_t i = 0; i < COUNT(pieces); i++) {
		int fd = client_connect();
		client_send(fd, pieces[i]);
		if (i % 2 == 0)
			close(fd);
		else
			client_reset(fd);
	}
}

static void a_client_that_leaves_within_its_body_is_released_once(void **state)
{
	(void)state;
	static const char *const heads[] = {
		"PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
		"PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nabc",
		"PUT /sink/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n",
	};
	int n = 0;
	for (int hard = 0; hard < 2; hard++) {
		for (size_t i = 0; i < COUNT(heads); i++) {
			int fd = client_connect();
			client_send(fd, heads[i]);
			scene_wait(&scene.began, ++n);
			if (hard)
				client_reset(fd);
			else
				close(fd);
			scene_wait(&scene.released, n);
		}
	}
	assert_int_equal(scene.finished, 0);
	assert_int_equal(scene.released, n);
}

static void
a_client_that_leaves_while_its_answer_is_deferred_is_released_after_completion(void **state)
{
	(void)state;
	int fd = client_connect();
	client_send(fd, "GET /defer HTTP/1.1\r\nHost: a\r\n\r\n");
	scene_wait(&scene.finished, 1);
	client_reset(fd);
	assert_int_equal(scene.released, 0);
	reply_memory(scene.deferred, "later", 5, NULL, NULL);
	exchange_complete(scene.deferred);
	scene_wait(&scene.released, 1);
}

static void a_client_that_leaves_within_its_answer_is_released_once(void **state)
{
	(void)state;
	char some[1000];
	for (int i = 0; i < 10; i++) {
		int fd = client_connect_with(4096);
		client_send(fd, "GET /stream/100000000 HTTP/1.1\r\nHost: a\r\n\r\n");
		assert_true(recv(fd, some, sizeof(some), 0) > 0);
		client_reset(fd);
	}
	scene_wait(&scene.released, 10);
	assert_int_equal(scene.released, 10);
}

/* --- limits --- */

/* Waits until so many tasks wait for a worker. */
static void wait_for_queue(const char *line)
{
	int64_t deadline = clock_monotonic_ms() + SCENE_DEADLINE_MS;
	bool seen = false;
	while (!seen && clock_monotonic_ms() < deadline) {
		struct buf text;
		buf_init(&text, 1 << 20);
		metrics_render(scene.metrics, &text);
		seen = strstr(buf_text(&text), line) != NULL;
		buf_release(&text);
		sched_yield();
	}
	assert_true(seen);
}

static void what_may_be_released_anywhere_waits_for_no_worker(void **state)
{
	(void)state;
	int fd = client_connect(), blocked = client_connect();
	client_send(fd, "GET /defer HTTP/1.1\r\nHost: a\r\n\r\n");
	scene_wait(&scene.finished, 1);
	client_send(blocked, "GET /block HTTP/1.1\r\nHost: a\r\n\r\n");
	scene_wait(&scene.finished, 2); /* the one worker is taken */
	reply_memory(scene.deferred, "later", 5, NULL, NULL);
	exchange_release_anywhere(scene.deferred);
	exchange_complete(scene.deferred);
	client_expect(fd, 200, "later");
	scene_wait(&scene.released, 1);
	scene_open_gate();
	client_expect(blocked, 200, NULL);
	close(fd);
	close(blocked);
}

static void a_full_queue_answers_503_with_retry_after(void **state)
{
	(void)state;
	struct answer a;
	int running = client_connect(), waiting = client_connect(), refused = client_connect();
	client_send(running, "GET /block HTTP/1.1\r\nHost: a\r\n\r\n");
	scene_wait(&scene.finished, 1);
	client_send(waiting, "GET /block HTTP/1.1\r\nHost: a\r\n\r\n");
	wait_for_queue("depotd_queue_depth{queue=\"work\"} 1\n");
	client_send(refused, "GET /worker HTTP/1.1\r\nHost: a\r\n\r\n");
	client_read(refused, &a);
	assert_int_equal(a.status, 503);
	assert_non_null(answer_field(&a, "Retry-After"));
	answer_release(&a);
	client_send(refused, "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
	client_expect(refused, 200, "memory");
	scene_open_gate();
	client_expect(running, 200, "opened");
	client_expect(waiting, 200, "opened");
	close(running);
	close(waiting);
	close(refused);
}

static int one_worker(void **state)
{
	(void)state;
	scene_set(scene_config(), 1, 1);
	return 0;
}

static int short_deadlines(void **state)
{
	(void)state;
	struct http_config config = scene_config();
	config.header_timeout_ms = 300;
	config.idle_timeout_ms = 1000;
	config.min_rate = 1000;
	scene_set(config, 2, 16);
	return 0;
}

static void a_head_that_trickles_is_cut_off_at_its_deadline(void **state)
{
	(void)state;
	int64_t began = clock_monotonic_ms();
	int fd = client_connect();
	struct pollfd end = {.fd = fd, .events = POLLIN};
	client_send(fd, "GET /memory HTTP/1.1\r\nHost: a\r\n");
	while (poll(&end, 1, 50) == 0 && clock_monotonic_ms() - began < SCENE_DEADLINE_MS) {
		if (client_push(fd, "X-A: b\r\n", 8) != 8)
			break;
	}
	client_expect_end(fd);
	assert_true(clock_monotonic_ms() - began >= 300);
	close(fd);
}

static void silence_before_the_first_request_and_between_requests_is_cut_off(void **state)
{
	(void)state;
	int first = client_connect(), second = client_connect();
	client_send(second, "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
	client_expect(second, 200, "memory");
	client_expect_end(first);
	client_expect_end(second);
	close(first);
	close(second);
}

static void a_body_slower_than_the_least_rate_is_cut_off(void **state)
{
	(void)state;
	int fd = client_connect();
	struct pollfd end = {.fd = fd, .events = POLLIN};
	client_send(fd, "PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
	while (poll(&end, 1, 50) == 0) {
		if (client_push(fd, "slow", 4) != 4)
			break;
	}
	client_expect_end(fd);
	scene_wait(&scene.released, 1);
	assert_int_equal(scene.finished, 0);
	close(fd);
}

static void a_body_that_is_fast_enough_outlives_many_windows(void **state)
{
	(void)state;
	char kilobyte[1024] = {0};
	int fd = client_connect();
	struct pollfd end = {.fd = fd, .events = POLLIN};
	client_send(fd, "PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 61440\r\n\r\n");
	for (int i = 0; i < 60; i++) { /* 3 s, 20 KiB/s */
		assert_int_equal(poll(&end, 1, 50), 0);
		client_send_n(fd, kilobyte, sizeof(kilobyte));
	}
	client_expect(fd, 201, NULL);
	close(fd);
}

static void a_client_that_stops_reading_is_ended_and_released(void **state)
{
	(void)state;
	int fd = client_connect_with(4096);
	client_send(fd, "GET /stream/100000000 HTTP/1.1\r\nHost: a\r\n\r\n");
	scene_wait(&scene.released, 1);
	close(fd);
}

static int two_connections(void **state)
{
	(void)state;
	struct http_config config = scene_config();
	config.max_connections = 2;
	scene_set(config, 2, 16);
	return 0;
}

static void a_connection_too_many_gets_503_and_room_comes_back(void **state)
{
	(void)state;
	int fds[3];
	for (int i = 0; i < 3; i++) {
		fds[i] = client_connect();
		client_send(fds[i], "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
		client_expect(fds[i], i < 2 ? 200 : 503, NULL);
	}
	client_expect_end(fds[2]);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	for (int status = 0; status != 200;) { /* until the server has noticed */
		struct answer a;
		int fd = client_connect();
		client_send(fd, "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
		client_read(fd, &a);
		status = a.status;
		answer_release(&a);
		close(fd);
	}
}

/* --- stopping --- */

static void *complete_deferred(void *context)
{
	(void)context;
	reply_memory(scene.deferred, "drained", 7, NULL, NULL);
	exchange_complete(scene.deferred);
	return NULL;
}

static void draining_waits_for_what_runs_and_closes_what_idles(void **state)
{
	(void)state;
	pthread_t helper;
	struct answer a;
	int idle = client_connect(), running = client_connect();
	client_send(idle, "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
	client_expect(idle, 200, "memory");
	client_send(running, "GET /defer HTTP/1.1\r\nHost: a\r\n\r\n");
	scene_wait(&scene.finished, 1);
	http_server_quiesce(scene.server);
	assert_false(http_server_drain(scene.server, 50));
	client_expect_end(idle);
	pthread_create(&helper, NULL, complete_deferred, NULL);
	assert_true(http_server_drain(scene.server, SCENE_DEADLINE_MS));
	pthread_join(helper, NULL);
	client_read(running, &a);
	assert_string_equal(a.body, "drained");
	assert_string_equal(answer_field(&a, "Connection"), "close");
	answer_release(&a);
	client_expect_end(running);
	close(idle);
	close(running);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)scene.port)};
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), -1);
	close(fd);
}

static void freeing_ends_what_still_runs_and_releases_it(void **state)
{
	(void)state;
	int fds[4];
	for (int i = 0; i < 4; i++)
		fds[i] = client_connect_with(4096);
	client_send(fds[0],
		    "PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
	client_send(fds[1], "PUT /sink/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
	client_send(fds[2], "GET /stream/100000000 HTTP/1.1\r\nHost: a\r\n\r\n");
	client_send(fds[3], "GET /memory HTTP/1.1\r\nHo");
	scene_wait(&scene.began, 2);
	char byte;
	assert_int_equal(recv(fds[2], &byte, 1, 0), 1);
	http_server_free(&scene.server);
	assert_int_equal(scene.released, 3);
	assert_int_equal(scene.finished, 0);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
}

static void the_watchdog_sees_a_server_that_lives(void **state)
{
	(void)state;
	int fd = client_connect();
	client_send(fd, "GET /memory HTTP/1.1\r\nHost: a\r\n\r\n");
	client_expect(fd, 200, "memory");
	assert_true(http_server_alive(scene.server, SCENE_DEADLINE_MS));
	close(fd);
}

#define SCENE(test, setup) cmocka_unit_test_setup_teardown(test, setup, strike)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE(a_get_is_answered_from_memory_and_the_connection_lives_on, usual),
		SCENE(head_is_served_by_gets_row_without_a_body, usual),
		SCENE(a_path_that_is_not_there_is_404_and_a_method_405_with_allow, usual),
		SCENE(query_headers_and_peer_are_what_the_client_sent, usual),
		SCENE(http_1_0_is_closed_unless_it_asks_to_stay, usual),
		SCENE(a_client_that_half_closes_gets_its_answer, usual),
		SCENE(a_reply_field_with_a_line_end_becomes_500, usual),
		SCENE(pipelined_requests_are_answered_in_order, usual),
		SCENE(a_connection_that_breaks_with_its_request_ends_in_good_order, usual),
		SCENE(a_body_in_single_bytes_arrives_whole, usual),
		SCENE(a_chunked_body_in_single_bytes_arrives_whole, usual),
		SCENE(a_megabyte_in_chunks_of_odd_sizes_arrives_whole, usual),
		SCENE(a_large_body_arrives_whole, usual),
		SCENE(a_refusal_before_the_body_is_read_with_ten_megabytes_in_flight, usual),
		SCENE(a_refusal_within_the_body_is_read_with_ten_megabytes_in_flight, usual),
		SCENE(a_refusal_of_a_chunked_body_is_read_too, usual),
		SCENE(the_connection_outlives_a_small_refused_body, usual),
		SCENE(a_body_where_none_is_taken_is_413_unless_it_is_empty, usual),
		SCENE(malformed_chunking_is_400_and_closes, usual),
		SCENE(a_client_that_expects_100_gets_it_when_its_body_is_wanted, usual),
		SCENE(a_client_that_expects_100_gets_the_refusal_instead, usual),
		SCENE(no_100_is_sent_when_the_body_is_on_its_way, usual),
		SCENE(another_expectation_is_417, usual),
		SCENE(a_streamed_answer_arrives_whole_and_is_released, usual),
		SCENE(a_streamed_answer_that_breaks_off_ends_the_connection, usual),
		SCENE(a_stretch_of_a_file_is_sent_and_released, usual),
		SCENE(a_deferred_answer_is_completed_from_another_thread, usual),
		SCENE(a_deferred_finish_is_called_again_from_another_thread, usual),
		SCENE(a_finish_may_ask_to_be_called_again_before_it_returns, usual),
		SCENE(a_client_that_leaves_before_or_within_a_head_leaves_nothing_behind, usual),
		SCENE(a_client_that_leaves_within_its_body_is_released_once, usual),
		SCENE(a_client_that_leaves_while_its_answer_is_deferred_is_released_after_completion,
		      usual),
		SCENE(a_client_that_leaves_within_its_answer_is_released_once, usual),
		SCENE(what_may_be_released_anywhere_waits_for_no_worker, one_worker),
		SCENE(a_full_queue_answers_503_with_retry_after, one_worker),
		SCENE(a_head_that_trickles_is_cut_off_at_its_deadline, short_deadlines),
		SCENE(silence_before_the_first_request_and_between_requests_is_cut_off,
		      short_deadlines),
		SCENE(a_body_slower_than_the_least_rate_is_cut_off, short_deadlines),
		SCENE(a_body_that_is_fast_enough_outlives_many_windows, short_deadlines),
		SCENE(a_client_that_stops_reading_is_ended_and_released, short_deadlines),
		SCENE(a_connection_too_many_gets_503_and_room_comes_back, two_connections),
		SCENE(draining_waits_for_what_runs_and_closes_what_idles, usual),
		SCENE(freeing_ends_what_still_runs_and_releases_it, usual),
		SCENE(the_watchdog_sees_a_server_that_lives, usual),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
