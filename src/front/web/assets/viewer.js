// One file, large: its content where a browser can show it, what is known of it, its name and tags to change.

import { call, Problem } from "./api.js";
import { badge, forget, known, neighbour, put, rowOf } from "./files.js";
import { announce, note } from "./notes.js";
import { exactly, size, sizeExactly, t, when } from "./text.js";
import { copyLinks } from "./uploads.js";

const TEXT_MAX = 256_000;
const PDF_MAX = 64 << 20; // it is shown from memory
const dialog = document.getElementById("viewer");
const stage = dialog.querySelector(".stage");
const title = dialog.querySelector("h2");
const form = dialog.querySelector(".edit");
const save = form.querySelector("button");
const wrong = form.querySelector(".wrong");
let removing = () => {};
let current = null;
let etag = null; // of the metadata that the form was filled from
let learnt = null; // is done when what the server knows has come
let turn = null; // aborts what was asked for the file before
let address = null; // of a blob, to be given back
let beside = null; // the neighbours of a file whose row is gone, by step
let leaving = null; // a step back in the history that is under way

function element(name, properties) {
	return Object.assign(document.createElement(name), properties);
}

// --- the content ---

function nothing(text) {
	const box = element("div", { className: "nothing" });
	box.append(badge(current), element("p", { textContent: text }));
	return box;
}

// UTF-8 where it is that, else the encoding that old Windows programs mean; a cut last character is no error.
function decode(bytes) {
	const mark = (bytes[0] << 8) | bytes[1];
	if (mark === 0xfffe) return new TextDecoder("utf-16le").decode(bytes);
	if (mark === 0xfeff) return new TextDecoder("utf-16be").decode(bytes);
	try {
		return new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
	} catch {
		return new TextDecoder("windows-1252").decode(bytes);
	}
}

async function text(file, signal) {
	if (!file.size) return nothing(t("no_text"));
	const answer = await call("GET", file.url, { signal, headers: { Accept: "*/*", Range: `bytes=0-${TEXT_MAX - 1}` } });
	const bytes = new Uint8Array(await answer.arrayBuffer());
	const box = element("div", { className: "text" });
	box.append(element("pre", { tabIndex: 0, textContent: decode(bytes), dir: "auto" }));
	if (bytes.length < file.size) {
		box.append(element("p", { className: "cut", textContent: t("truncated", { shown: size(bytes.length), size: size(file.size) }) }));
	}
	return box;
}

// What is there of it is shown at once, unless nothing is: then the wait is said.
function picture(file, signal) {
	const image = element("img", { src: file.url, alt: file.name });
	const wait = setTimeout(() => { if (!signal.aborted && !image.naturalWidth) image.before(loading()); }, 150);
	image.addEventListener("load", () => {
		clearTimeout(wait);
		stage.querySelector(".loading")?.remove();
	});
	return image;
}

function loading() {
	return element("p", { className: "nothing loading", textContent: t("loading") });
}

// Stored bytes are served into a sandbox, where not every browser starts its PDF viewer; from memory all of them do.
async function pdf(file, signal) {
	if (file.size > PDF_MAX || navigator.pdfViewerEnabled === false) return nothing(t("no_preview"));
	const answer = await call("GET", file.url, { signal, headers: { Accept: "*/*" } });
	const content = new Blob([await answer.arrayBuffer()], { type: "application/pdf" });
	if (signal.aborted) return null;
	address = URL.createObjectURL(content);
	return element("iframe", { src: address, title: file.name });
}

function isText(type) {
	return type.startsWith("text/") || /^application\/(x-)?(json|ndjson|xml|yaml|toml|javascript|sql|sh|tex|perl|php)$|\+(json|xml)$/.test(type);
}

function content(file, signal) {
	const family = file.type.split("/")[0];
	if (!file.size) return nothing(t("no_text"));
	if (family === "image" && file.type !== "image/tiff") return picture(file, signal);
	if (family === "video") return element("video", { src: file.url, controls: true, preload: "metadata" });
	if (family === "audio") return element("audio", { src: file.url, controls: true, preload: "metadata" });
	if (file.type === "application/pdf") return pdf(file, signal);
	if (isText(file.type)) return text(file, signal);
	return nothing(t("no_preview"));
}

function clear() {
	turn?.abort();
	for (const player of stage.querySelectorAll("audio, video")) player.removeAttribute("src"), player.load();
	stage.replaceChildren();
	if (address) URL.revokeObjectURL(address);
	address = null;
}

async function play(file) {
	const mine = new AbortController();
	turn = mine;
	const late = setTimeout(() => { if (!mine.signal.aborted) stage.replaceChildren(loading()); }, 150);
	let shown;
	try {
		shown = await content(file, mine.signal);
	} catch (error) {
		shown = nothing(error.message);
	}
	clearTimeout(late);
	if (mine.signal.aborted) return;
	shown.addEventListener("error", () => { if (!mine.signal.aborted) stage.replaceChildren(nothing(t("not_played"))); });
	stage.replaceChildren(shown);
}

// --- what is known of it ---

function facts(file) {
	const text = {
		size: sizeExactly(file.size),
		type: file.type,
		created: exactly(file.created_at),
		expires: file.expires_at ? `${exactly(file.expires_at)} (${when(file.expires_at)})` : t("never"),
		sha256: file.sha256 ?? "…",
	};
	for (const place of dialog.querySelectorAll("[data-fact]")) place.textContent = text[place.dataset.fact];
}

function fillForm(file) {
	form.elements.name.value = file.name;
	form.elements.tags.value = file.tags.join(", ");
	save.disabled = true;
	wrong.textContent = "";
}

const editable = (file) => JSON.stringify([file.name, file.tags]);

// The list knows most of it, but not the digest, and somebody may have changed it since. Who began to edit what was not true any
// more is told so, and sees what is: the revision that a change asks for is always the one that stands in the form.
async function learn(file) {
	const { signal } = turn;
	try {
		const answer = await call("GET", `${file.url}/metadata`, { signal });
		const fresh = await answer.json();
		if (signal.aborted) return;
		etag = answer.headers.get("ETag");
		current = { ...file, ...fresh };
		facts(current);
		title.textContent = fresh.name;
		const edited = !save.disabled;
		const stale = editable(file) !== editable(current);
		if (!edited || stale) fillForm(current);
		if (edited && stale) wrong.textContent = t("changed_elsewhere");
	} catch (error) {
		if (error.status === 404 && !signal.aborted) gone(file);
		else if (error.name !== "AbortError") wrong.textContent = error.message;
	}
}

// Somebody else deleted it, or its time was over.
function gone(file) {
	beside = { "-1": neighbour(file, -1), 1: neighbour(file, 1) };
	clear();
	dialog.classList.add("gone");
	dialog.querySelector("[data-fact=sha256]").textContent = current.sha256 ?? "–";
	stage.replaceChildren(nothing(t("gone")));
	announce(t("gone"));
	if (dialog.querySelector("aside").contains(document.activeElement)) dialog.querySelector("[data-do=close]").focus();
	forget(file.id);
}

async function change(event) {
	event.preventDefault();
	await learnt;
	if (!etag) await learn(current);
	if (save.disabled || !etag) return;
	const tags = form.elements.tags.value.split(",").map((tag) => tag.trim()).filter(Boolean);
	const file = current;
	save.disabled = true;
	wrong.textContent = "";
	try {
		const body = { name: form.elements.name.value, tags };
		const answer = await call("PATCH", `${file.url}/metadata`, { body, headers: { "If-Match": etag } });
		const fresh = await answer.json();
		put(fresh);
		if (current.id !== fresh.id) return;
		etag = answer.headers.get("ETag");
		current = fresh;
		title.textContent = fresh.name;
		facts(fresh);
		fillForm(fresh);
		flash(save, t("saved"));
	} catch (problem) {
		if (current.id !== file.id) return;
		if (problem.status === 404) {
			gone(file);
			return;
		}
		if (problem.status === 412) await learn(file);
		if (current.id !== file.id) return;
		wrong.textContent = problem.status === 412 ? t("changed_elsewhere") : problem.message;
		save.disabled = problem.status === 412;
	}
}

function flash(button, text) {
	const words = button.querySelector("span") ?? button;
	const plain = words.dataset.plain ?? words.textContent;
	words.dataset.plain = plain;
	words.textContent = text;
	announce(text);
	setTimeout(() => { words.textContent = plain; }, 1800);
}

// --- opening, stepping, closing ---

function show(file) {
	clear();
	current = file;
	etag = null;
	beside = null;
	dialog.classList.remove("gone");
	title.textContent = file.name;
	dialog.querySelector("[data-do=download]").href = `${file.url}?download`;
	dialog.querySelector("[data-do=open]").href = file.url;
	dialog.querySelector("[data-do=previous]").disabled = !neighbour(file, -1);
	dialog.querySelector("[data-do=next]").disabled = !neighbour(file, 1);
	facts(file);
	fillForm(file);
	play(file);
	learnt = learn(file);
}

function step(by) {
	const next = beside ? beside[by] : neighbour(current, by);
	if (!next) return;
	const button = document.activeElement;
	show(next);
	history.replaceState(history.state, "", `#${next.id}`);
	announce(next.name);
	if (button.disabled) dialog.querySelector("[data-do=close]").focus();
}

export function open(file, { edit = false } = {}) {
	if (!dialog.open) dialog.showModal();
	show(file);
	remember();
	if (!edit) {
		dialog.querySelector("[data-do=close]").focus();
		return;
	}
	const dot = file.name.lastIndexOf(".");
	form.elements.name.focus();
	form.elements.name.setSelectionRange(0, dot > 0 ? dot : file.name.length);
}

// The address names the file that is open: it can be shared and reloaded, and the browser's Back closes the view.
async function remember() {
	if (leaving) await leaving.done;
	if (!dialog.open || named() === current.id) return;
	if (history.state?.viewing) history.replaceState(history.state, "", `#${current.id}`);
	else history.pushState({ viewing: true }, "", `#${current.id}`);
}

function named() {
	return /^#([0-9a-f-]{36})$/.exec(location.hash)?.[1];
}

function forgetAddress() {
	if (!named()) return;
	if (history.state?.viewing) {
		leaving = {};
		leaving.done = new Promise((done) => { leaving.over = done; });
		history.back();
	} else {
		history.replaceState(null, "", location.pathname + location.search);
	}
}

async function follow() {
	if (leaving) {
		leaving.over();
		leaving = null;
		return;
	}
	const id = named();
	if (!id) {
		if (dialog.open) dialog.close();
	} else if (!dialog.open || current.id !== id) {
		try {
			let file = known(id);
			if (file === null) throw new Problem(404);
			file ??= await (await call("GET", `/files/${id}/metadata`)).json();
			if (named() !== id) return;
			if (dialog.open) show(file);
			else open(file);
		} catch (problem) {
			forgetAddress();
			note(problem.status === 404 ? t("gone") : problem.message, { failed: true });
		}
	}
}

function closed() {
	if (dialog.open) return; // the event comes a moment later: it was opened again meanwhile
	forgetAddress();
	const row = rowOf(current.id);
	clear();
	(row?.querySelector(".name") ?? document.getElementById("files")).focus();
}

function clicked(event) {
	const action = event.target.closest("[data-do]")?.dataset.do;
	if (action === "close" || event.target === dialog) dialog.close();
	else if (action === "previous") step(-1);
	else if (action === "next") step(1);
	else if (action === "link") copyLinks([current]);
	else if (action === "delete") {
		const file = current;
		dialog.close();
		removing([file]);
	}
}

export function start(remove) {
	removing = remove;
	dialog.addEventListener("close", closed);
	dialog.addEventListener("click", clicked);
	dialog.addEventListener("keydown", (event) => {
		if (event.target.closest("input, pre, video, audio") || event.ctrlKey || event.metaKey || event.altKey) return;
		if (event.key === "ArrowLeft") step(-1);
		if (event.key === "ArrowRight") step(1);
	});
	addEventListener("popstate", follow);
	follow();
	form.addEventListener("submit", change);
	form.addEventListener("input", () => { save.disabled = !form.elements.name.value.trim(); });
}
