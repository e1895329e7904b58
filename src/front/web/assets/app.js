// The page: takes over the list that the server rendered, and keeps it alive.

import * as preview from "./preview.js";
import { announce, exactly, problem, size, t, toast, when } from "./text.js";
import * as uploads from "./uploads.js";

const UNDO_SECONDS = 6;
const list = document.getElementById("files");
const more = document.getElementById("more");
const search = document.querySelector(".search");
const blank = document.getElementById("row").content;
const files = new Map(); // by id: the file objects that the list shows
const leaving = new Map(); // by id: deletions that can still be taken back
let cursor = null;
let asked = 0; // counts lists, so that a slow answer of an earlier one is dropped
let loading = false;

// --- talking to the server ---

async function call(method, url, body) {
	const headers = { Accept: "application/json" };
	if (body) headers["Content-Type"] = "application/merge-patch+json";
	let answer;
	try {
		answer = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
	} catch {
		throw new Error(t("no_connection"));
	}
	if (!answer.ok) throw new Error(problem(answer.status, await answer.text()));
	return answer.status === 204 ? null : answer.json();
}

function filters() {
	const query = new URLSearchParams();
	for (const [key, value] of new FormData(search))
		if (value && !(key === "sort" && value === "-created_at")) query.set(key, value);
	return query;
}

// --- rows ---

function badge(name) {
	const found = /[^.]\.([!-~]{1,5})$/.exec(name);
	return found ? found[1] : "";
}

const thumbnails = /^image\/(png|jpeg|gif|webp|avif|bmp|x-icon|vnd\.microsoft\.icon)$/;

function thumbnail(file) {
	if (!thumbnails.test(file.type) || file.size > 20 << 20) return Object.assign(document.createElement("span"), { className: "badge", textContent: badge(file.name) });
	const image = Object.assign(document.createElement("img"), { alt: "", loading: "lazy", decoding: "async", width: 44, height: 44, src: file.url });
	image.addEventListener("error", () => image.replaceWith(thumbnail({ ...file, type: "" })));
	return image;
}

function tagLinks(tags) {
	return tags.map((tag) => Object.assign(document.createElement("a"), { className: "tag", textContent: tag, href: `/?tag=${encodeURIComponent(tag)}` }));
}

function fill(row, file) {
	row.dataset.id = file.id;
	for (const link of row.querySelectorAll(".thumb, .name")) link.href = file.url;
	row.querySelector("[data-do=download]").href = `${file.url}?download`;
	row.querySelector(".thumb").replaceChildren(thumbnail(file));
	row.querySelector(".name").textContent = file.name;
	row.querySelector(".name").title = file.name;
	row.querySelector(".size").textContent = size(file.size);
	row.querySelector("time").textContent = when(file.created_at);
	row.querySelector("time").dateTime = file.created_at;
	row.querySelector("time").title = exactly(file.created_at);
	row.querySelector(".type").textContent = file.type;
	row.querySelector(".tags").replaceChildren(...tagLinks(file.tags));
	for (const button of row.querySelectorAll(".actions [data-do]")) button.setAttribute("aria-label", `${button.textContent}: ${file.name}`);
	return row;
}

function add(file, where = "append") {
	if (files.has(file.id) || leaving.has(file.id)) return null;
	files.set(file.id, file);
	const row = fill(blank.firstElementChild.cloneNode(true), file);
	list[where](row);
	return row;
}

function rowOf(id) {
	return list.querySelector(`[data-id="${CSS.escape(id)}"]`);
}

function drop(id) {
	const row = rowOf(id);
	files.delete(id);
	if (row?.contains(document.activeElement)) (row.nextElementSibling?.querySelector(".name") ?? list).focus();
	row?.remove();
	showEmpty();
}

function showEmpty() {
	document.getElementById("empty")?.remove();
	if (list.children.length || cursor) return;
	const text = filters().toString() ? t("nothing") : t("empty");
	list.after(Object.assign(document.createElement("p"), { id: "empty", className: "empty", textContent: text }));
}

// --- the list ---

async function load() {
	if (loading) return;
	const mine = asked;
	const query = filters();
	loading = true;
	if (cursor) query.set("cursor", cursor);
	try {
		const page = await call("GET", `/files?${query}`);
		if (mine !== asked) return;
		cursor = page.next_cursor;
		for (const file of page.files) add(file);
		announce(t("shown", { n: files.size }));
	} catch (error) {
		if (mine === asked) toast(error.message, { failed: true, action: { label: t("retry"), run: load } });
	} finally {
		if (mine === asked) {
			loading = false;
			showMore();
		}
	}
}

function showMore() {
	showEmpty();
	more.replaceChildren();
	if (!cursor) return;
	const button = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: t("next_page") });
	button.addEventListener("click", load);
	more.append(button);
	watcher.unobserve(more);
	watcher.observe(more);
}

const watcher = new IntersectionObserver((entries) => {
	if (cursor && entries.some((entry) => entry.isIntersecting)) load();
}, { rootMargin: "600px" });

function reload() {
	asked++;
	loading = false;
	cursor = null;
	files.clear();
	list.replaceChildren();
	more.replaceChildren();
	return load();
}

// --- what people do with a file ---

async function copyLink(file) {
	const url = new URL(file.url, location.href).href;
	try {
		await navigator.clipboard.writeText(url);
		toast(t("copied"), { seconds: 3 });
	} catch {
		toast(url, { seconds: 15 }); // no clipboard without TLS: show it, so that it can be taken by hand
	}
}

// The row goes at once, the file when the chance to take it back is over.
function remove(file) {
	const next = rowOf(file.id)?.nextElementSibling;
	const finish = async (keepalive = false) => {
		clearTimeout(timer);
		if (!leaving.delete(file.id)) return;
		try {
			const answer = await fetch(file.url, { method: "DELETE", keepalive, headers: { Accept: "application/json" } });
			if (!answer.ok && answer.status !== 404) throw new Error(problem(answer.status, await answer.text()));
		} catch (error) {
			if (keepalive) return;
			toast(error.message, { failed: true });
			restore();
		}
	};
	const restore = () => {
		clearTimeout(timer);
		leaving.delete(file.id);
		const row = add(file, "prepend");
		if (!row) return;
		if (next?.isConnected) next.before(row);
		else if (list.children.length > 1 && next === null) list.append(row);
		showEmpty();
		row.querySelector(".name").focus();
	};
	const timer = setTimeout(finish, UNDO_SECONDS * 1000);
	leaving.set(file.id, finish);
	drop(file.id);
	toast(t("deleted", { name: file.name }), {
		seconds: UNDO_SECONDS,
		action: { label: t("undo"), run: () => { restore(); announce(t("restored", { name: file.name })); } },
	});
}

const edit = document.getElementById("edit");

function editLabels(file) {
	const form = edit.querySelector("form");
	form.elements.name.value = file.name;
	form.elements.tags.value = file.tags.join(", ");
	form.querySelector(".error").textContent = "";
	form.onsubmit = async (event) => {
		event.preventDefault();
		const tags = form.elements.tags.value.split(",").map((tag) => tag.trim()).filter(Boolean);
		try {
			const changed = await call("PATCH", `${file.url}/metadata`, { name: form.elements.name.value, tags });
			files.set(changed.id, changed);
			const row = rowOf(changed.id);
			if (row) fill(row, changed);
			edit.close();
			toast(t("saved"), { seconds: 3 });
		} catch (error) {
			form.querySelector(".error").textContent = error.message;
		}
	};
	edit.showModal();
	const dot = file.name.lastIndexOf(".");
	form.elements.name.setSelectionRange(0, dot > 0 ? dot : file.name.length);
}

const actions = { link: copyLink, edit: editLabels, delete: remove };

function clicked(event) {
	const file = files.get(event.target.closest("[data-id]")?.dataset.id);
	const action = event.target.closest("[data-do]")?.dataset.do;
	if (!file || event.ctrlKey || event.metaKey || event.shiftKey) return;
	if (actions[action]) {
		actions[action](file);
	} else if (!action && event.target.closest(".name, .thumb")) {
		event.preventDefault();
		preview.open(file);
	}
}

function pressed(event) {
	const row = event.target.closest(".file");
	const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
	if (row && step && row[step]) {
		event.preventDefault();
		row[step].querySelector(".name").focus();
	} else if (row && event.key === "Delete") {
		remove(files.get(row.dataset.id));
	}
}

// --- start ---

function startSearch() {
	let timer;
	const changed = () => {
		const query = filters().toString();
		history.replaceState(null, "", query ? `/?${query}` : "/");
		reload();
	};
	search.addEventListener("submit", (event) => { event.preventDefault(); changed(); });
	search.addEventListener("change", changed);
	search.addEventListener("input", (event) => {
		if (event.target.name !== "q") return;
		clearTimeout(timer);
		timer = setTimeout(changed, 250);
	});
	addEventListener("keydown", (event) => {
		if (event.key !== "/" || event.target.closest("input, select, textarea, dialog")) return;
		event.preventDefault();
		search.elements.q.focus();
	});
}

function start() {
	document.documentElement.classList.add("js");
	startSearch();
	uploads.start();
	uploads.onStored((file) => {
		const row = add(file, "prepend");
		row?.classList.add("fresh");
		showEmpty();
	});
	preview.start(() => [...list.children].map((row) => files.get(row.dataset.id)));
	list.addEventListener("click", clicked);
	list.addEventListener("keydown", pressed);
	edit.querySelector("[data-do=cancel]").addEventListener("click", () => edit.close());
	addEventListener("pagehide", () => { for (const finish of leaving.values()) finish(true); });
	reload();
}

start();
