/*
 * A flight: commands sent together in pipeline mode and their answers read, one round trip for all of them.
 *
 * A statement is prepared in the flight that uses it first on its connection. Between flights the connection is out of
 * pipeline mode and idle. One thread per connection.
 */
#include <endian.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "postgres_private.h"

/* Types of pg_type.dat; these numbers never change. */
enum {
	OID_BOOL = 16,
	OID_INT8 = 20,
	OID_INT2 = 21,
	OID_INT4 = 23,
	OID_TEXT = 25,
	OID_TEXT_ARRAY = 1009,
	OID_INT8_ARRAY = 1016,
	OID_VOID = 2278,
};
enum { PARAMS_MAX = 32, COLUMNS_MAX = 32, FORMAT_BINARY = 1 };
/* An array's head: dimensions, whether there are nulls, type, members, the first one's number. */
enum { ARRAY_HEAD = 5 * sizeof(uint32_t) };
/* Of one command; the protocol ends at 1 GiB. */
enum { ARRAYS_MAX = 512 * 1024 * 1024 };

/* --- sending --- */

struct encoded {
	Oid types[PARAMS_MAX];
	const char *values[PARAMS_MAX];
	int lengths[PARAMS_MAX];
	int formats[PARAMS_MAX];
	uint64_t numbers[PARAMS_MAX];
	char *arrays; /* one behind the other, or NULL */
};

static char *put_u32(char *at, uint32_t number)
{
	number = htobe32(number);
	memcpy(at, &number, sizeof(number));
	return at + sizeof(number);
}

static char *put_item(char *at, const struct value *item)
{
	uint64_t number = htobe64((uint64_t)item->number);
	const void *data = item->kind == VALUE_INT ? (const void *)&number : item->text;
	size_t length = item->kind == VALUE_INT ? sizeof(number) : item->len;

	if (item->null)
		return put_u32(at, UINT32_MAX);
	at = put_u32(at, (uint32_t)length);
	memcpy(at, data, length);
	return at + length;
}

/* What put_array() writes at most. */
static size_t array_size(const struct value *array)
{
	size_t size = ARRAY_HEAD;

	for (size_t i = 0; i < array->len; i++)
		size += sizeof(uint32_t) + sizeof(uint64_t) +
			(array->items[i].kind == VALUE_TEXT ? array->items[i].len : 0);
	return size;
}

/* The server's binary form of a one-dimensional array (array_recv() of its arrayfuncs.c). */
static char *put_array(char *at, const struct value *array, Oid type)
{
	uint32_t nulls = 0;

	for (size_t i = 0; i < array->len; i++)
		nulls |= array->items[i].null;
	at = put_u32(at, 1);
	at = put_u32(at, nulls);
	at = put_u32(at, type);
	at = put_u32(at, (uint32_t)array->len);
	at = put_u32(at, 1);
	for (size_t i = 0; i < array->len; i++)
		at = put_item(at, &array->items[i]);
	return at;
}

static int encode_arrays(const struct command *command, struct encoded *out, struct err *err)
{
	size_t size = 0;
	char *at;

	out->arrays = NULL;
	for (size_t i = 0; i < command->param_count; i++) {
		if (command->params[i].kind == VALUE_ARRAY)
			size += array_size(&command->params[i]);
	}
	if (size == 0)
		return 0;
	at = out->arrays = size <= ARRAYS_MAX ? malloc(size) : NULL;
	if (!at)
		return err_set(err, ERR_NO_MEMORY, "%s: arrays of %zu bytes",
			       command->statement->name, size);
	for (size_t i = 0; i < command->param_count; i++) {
		const struct value *array = &command->params[i];
		bool numbers = array->kind == VALUE_ARRAY && array->items[0].kind == VALUE_INT;

		if (array->kind != VALUE_ARRAY)
			continue;
		out->types[i] = numbers ? OID_INT8_ARRAY : OID_TEXT_ARRAY;
		out->formats[i] = FORMAT_BINARY;
		out->values[i] = at;
		at = put_array(at, array, numbers ? OID_INT8 : OID_TEXT);
		out->lengths[i] = (int)(at - out->values[i]);
	}
	return 0;
}

/*
 * Numbers go in binary as bigint; texts in text form, of whatever type the statement casts them to; arrays in binary as bigint[] or
 * text[].
 */
static int encode(const struct command *command, struct encoded *out, struct err *err)
{
	for (size_t i = 0; i < command->param_count; i++) {
		const struct value *value = &command->params[i];
		bool number = value->kind == VALUE_INT;

		out->types[i] = number ? OID_INT8 : 0;
		out->formats[i] = number ? FORMAT_BINARY : 0;
		out->lengths[i] = (int)sizeof(out->numbers[i]);
		out->numbers[i] = htobe64((uint64_t)value->number);
		out->values[i] = value->null ? NULL
				 : number    ? (const char *)&out->numbers[i]
					     : value->text;
	}
	return encode_arrays(command, out, err);
}

static int send_command(struct pg_connection *c, struct pg_step *step, struct err *err)
{
	const struct command *command = step->command;
	const struct statement *statement = command->statement;
	int n = (int)command->param_count;
	struct encoded e;
	int rc = -1;

	if (n > PARAMS_MAX)
		return err_set(err, ERR_INTERNAL, "%s: more than %d parameters", statement->name,
			       PARAMS_MAX);
	if (encode(command, &e, err) < 0)
		return -1;
	step->prepare = !c->prepared[statement->index];
	if (step->prepare && !PQsendPrepare(c->conn, statement->name, statement->text, n, e.types))
		goto out;
	c->prepared[statement->index] =
		true; /* for the rest of this flight; taken back if it fails */
	if (PQsendQueryPrepared(c->conn, statement->name, n, e.values, e.lengths, e.formats,
				FORMAT_BINARY))
		rc = 0;
out:
	free(e.arrays);
	return rc < 0 ? pg_connection_failed(c, statement->name, err) : 0;
}

static int send_step(struct pg_connection *c, struct pg_step *step, struct err *err)
{
	if (!step->control)
		return send_command(c, step, err);
	if (!PQsendQueryParams(c->conn, step->control, 0, NULL, NULL, NULL, NULL, FORMAT_BINARY))
		return pg_connection_failed(c, step->control, err);
	return 0;
}

/* --- receiving --- */

struct answers {
	struct pg_connection *c;
	int64_t deadline_ns;
	int rc; /* -1: something failed, err has the first */
	bool refused;
	struct pg_failure *failure;
	struct err *err;
};

/* The next result, or NULL where the connection was lost or none is due. */
static PGresult *next_result(struct answers *a)
{
	struct err *err = a->err, later;

	if (a->rc < 0)
		err = &later; /* the first failure is the one to tell */
	while (PQisBusy(a->c->conn)) {
		if (pg_wait(a->c, a->deadline_ns, -1, err) < 0) {
			a->rc = -1;
			return NULL;
		}
	}
	return PQgetResult(a->c->conn);
}

static void lose(struct answers *a, const char *what)
{
	struct err later;

	pg_connection_failed(a->c, what, a->rc < 0 ? &later : a->err);
	a->rc = -1;
}

/* One answer and the NULL behind it. The result where it is a success, else NULL. */
static PGresult *next_answer(struct answers *a, const char *what)
{
	PGresult *result = next_result(a), *end;
	ExecStatusType status = PQresultStatus(result); /* PGRES_FATAL_ERROR for NULL */

	if (!result) {
		if (!a->c->lost)
			lose(a, what);
		return NULL;
	}
	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
		if (a->rc == 0) {
			a->rc = pg_result_failed(a->c, result, what, a->failure, a->err);
			a->refused =
				PQresultErrorField(result, PG_DIAG_SQLSTATE) && !a->failure->fatal;
		}
		PQclear(result);
		result = NULL;
	}
	if (PQstatus(a->c->conn) != CONNECTION_OK) {
		a->c->lost = true;
		return result; /* an answer is an answer, even if it was the last word */
	}
	end = next_result(a);
	if (end) {
		PQclear(end);
		PQclear(result);
		lose(a, "two answers to one command");
		return NULL;
	}
	return result;
}

static const char *step_name(const struct pg_step *step)
{
	return step->control ? step->control : step->command->statement->name;
}

static void receive_step(struct answers *a, struct pg_step *step)
{
	if (step->prepare) {
		PGresult *prepared = next_answer(a, step_name(step));

		if (!prepared)
			a->c->prepared[step->command->statement->index] = false;
		PQclear(prepared);
	}
	if (!a->c->lost)
		step->result = next_answer(a, step_name(step));
	/* A COMMIT of a transaction that had failed says ROLLBACK. */
	if (step->result && step->control && strcmp(step->control, "COMMIT") == 0 &&
	    strcmp(PQcmdStatus(step->result), "COMMIT") != 0) {
		a->rc = err_set(a->err, ERR_INTERNAL, "PostgreSQL: COMMIT was answered with %s",
				PQcmdStatus(step->result));
		a->refused = true;
	}
}

static void receive_sync(struct answers *a)
{
	PGresult *result = a->c->lost ? NULL : next_result(a);

	if (PQresultStatus(result) != PGRES_PIPELINE_SYNC && !a->c->lost)
		lose(a, "sync");
	PQclear(result);
	if (!a->c->lost && !PQexitPipelineMode(a->c->conn))
		lose(a, "sync");
}

int pg_take_off(struct pg_connection *c, struct pg_step *steps, size_t n, struct err *err)
{
	if (!PQenterPipelineMode(c->conn))
		return pg_connection_failed(c, "pipeline mode", err);
	if (pg_send_more(c, steps, n, err) < 0)
		return -1;
	/* What the socket does not take now goes with the landing. */
	return PQflush(c->conn) < 0 ? pg_connection_failed(c, "pipeline mode", err) : 0;
}

int pg_send_more(struct pg_connection *c, struct pg_step *steps, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (send_step(c, &steps[i], err) < 0) {
			c->lost = true;
			return -1;
		}
	}
	return 0;
}

int pg_land(struct pg_connection *c, struct pg_step *steps, size_t n, int64_t deadline_ns,
	    bool *refused, struct pg_failure *failure, struct err *err)
{
	struct answers answers = {c, deadline_ns, 0, false, failure, err};

	*refused = false;
	*failure = (struct pg_failure){0};
	if (!PQpipelineSync(c->conn))
		return pg_connection_failed(c, "sync", err);
	for (size_t i = 0; i < n && !c->lost; i++)
		receive_step(&answers, &steps[i]);
	receive_sync(&answers);
	*refused = answers.refused;
	return answers.rc;
}

int pg_fly(struct pg_connection *c, struct pg_step *steps, size_t n, int64_t deadline_ns,
	   bool *refused, struct pg_failure *failure, struct err *err)
{
	*refused = false;
	*failure = (struct pg_failure){0};
	if (!PQenterPipelineMode(c->conn))
		return pg_connection_failed(c, "pipeline mode", err);
	if (pg_send_more(c, steps, n, err) < 0)
		return -1;
	return pg_land(c, steps, n, deadline_ns, refused, failure, err);
}

void pg_steps_clear(struct pg_step *steps, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		PQclear(steps[i].result);
		steps[i].result = NULL;
	}
}

/* --- rows --- */

static int64_t big_endian(const char *data, int length)
{
	uint64_t number = length > 0 && ((unsigned char)data[0] & 0x80) ? UINT64_MAX : 0;

	for (int i = 0; i < length && i < 8; i++)
		number = number << 8 | (unsigned char)data[i];
	return (int64_t)number;
}

static struct value column_value(const PGresult *result, int row, int column)
{
	struct value out = {.kind = VALUE_TEXT, .null = PQgetisnull(result, row, column) != 0};
	int length = PQgetlength(result, row, column);

	switch (PQftype(result, column)) {
	case OID_BOOL:
		out.kind = VALUE_INT;
		out.number = length == 1 && PQgetvalue(result, row, column)[0] != 0;
		break;
	case OID_INT2:
	case OID_INT4:
	case OID_INT8:
		out.kind = VALUE_INT;
		out.number = big_endian(PQgetvalue(result, row, column), length);
		break;
	case OID_VOID:
		out.null = true;
		break;
	default:
		out.text = out.null ? NULL : PQgetvalue(result, row, column);
		out.len = out.null ? 0 : (size_t)length;
	}
	return out;
}

int pg_deliver(struct pg_step *step, struct err *err)
{
	struct command *command = step->command;
	int rows = PQntuples(step->result), columns = PQnfields(step->result);
	struct value values[COLUMNS_MAX];

	if (columns > COLUMNS_MAX)
		return err_set(err, ERR_INTERNAL, "%s has more than %d columns",
			       command->statement->name, COLUMNS_MAX);
	command->affected = strtoll(PQcmdTuples(step->result), NULL, 10);
	for (int row = 0; command->row && row < rows; row++) {
		for (int column = 0; column < columns; column++)
			values[column] = column_value(step->result, row, column);
		if (command->row(command->context, values, (size_t)columns, err) < 0)
			return -1;
	}
	return 0;
}
