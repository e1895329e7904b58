// The peer that people write by hand: Express takes the form, multer streams each part to a file, pg inserts a row. Nothing is synced.
//
//   node express_server.js PORT UPLOAD_DIRECTORY POSTGRES_SOCKET_DIRECTORY USER DATABASE
"use strict";

const express = require("express");
const multer = require("multer");
const { Pool } = require("pg");

const [port, directory, host, user, database] = process.argv.slice(2);
const pool = new Pool({ host, user, database });
const upload = multer({ dest: directory });
const app = express();

app.post("/upload", upload.single("file"), async (request, response) => {
  const { originalname, filename, size, mimetype } = request.file;
  try {
    const result = await pool.query(
      "INSERT INTO uploads (name, stored_as, size, type) VALUES ($1, $2, $3, $4) RETURNING id, created_at",
      [originalname, filename, size, mimetype]);
    response.status(201).json({ ...result.rows[0], name: originalname, size, type: mimetype });
  } catch (error) {
    response.status(500).json({ error: error.message });
  }
});

pool.query(`CREATE TABLE IF NOT EXISTS uploads (id bigserial PRIMARY KEY, name text NOT NULL, stored_as text NOT NULL,
  size bigint NOT NULL, type text NOT NULL, created_at timestamptz NOT NULL DEFAULT now())`)
  .then(() => app.listen(Number(port), "127.0.0.1"));
