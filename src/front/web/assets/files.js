// The list: takes over the rows that the server rendered, adds pages as they are scrolled to, keeps rows in the order of its sort.

import { call } from "./api.js";
import { announce, note } from "./notes.js";
import { exactly, number, size, sizeExactly, t, tn, when } from "./text.js";

const list = document.getElementById("files");
const more = document.getElementById("more");
const shown = document.getElementById("shown");
const filter = document.getElementById("filter");
const search = document.getElementById("search");
const tools = document.getElementById("tools").content;
const blank = document.getElementById("row").content;
const files = new Map(); // by id: what the list shows, or would if nobody hid it
const rows = new Map(); // by id: the row that was made for a file last; it may have left the list
const hidden = new Set(); // ids that are on their way out and may come back
let cursor = null;
let asking = null; // aborts the request for a page that is under way
let missing = ""; // why there is no list for now; it is asked for again and again until there is
let again = 0; // the timer of the next try
let changed = () => {};

// --- one row ---

const pictures = /^image\/(png|jpeg|gif|webp|avif|bmp|x-icon|vnd\.microsoft\.icon|svg\+xml)$/;
const AGAIN_MS = 2000; // between two tries for a list that is not there
const FOLLOW_MS = 3000; // after which the rows of what was stored meanwhile are there, too
const PICTURE_MAX = 20 << 20; // larger ones take longer to fetch than they help to tell apart

function element(name, properties) {
	return Object.assign(document.createElement(name), properties);
}

export function icon(name) {
	const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
	const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
	svg.setAttribute("class", "icon");
	svg.setAttribute("aria-hidden", "true");
	use.setAttribute("href", `#i-${name}`);
	svg.append(use);
	return svg;
}

export function badge(file) {
	const extension = /[^.]\.([!-~]{1,5})$/.exec(file.name);
	const box = element("span", { className: "badge" });
	box.append(extension ? extension[1] : icon("file"));
	return box;
}

function thumbnail(file) {
	if (!pictures.test(file.type) || file.size > PICTURE_MAX || !file.size) return badge(file);
	return element("img", { alt: "", loading: "lazy", decoding: "async", width: 44, height: 44, src: file.url });
}

function tagLink(tag) {
	return element("a", { className: "tag", dir: "auto", textContent: tag, href: `/?tag=${encodeURIComponent(tag)}` });
}

function expiry(file) {
	const time = element("time", { dateTime: file.expires_at, title: exactly(file.expires_at), textContent: when(file.expires_at) });
	const box = element("span", { className: "expires" });
	box.append(`${t("expires_on")} `, time);
	return box;
}

// What follows from the file object alone; the same for rows of either origin.
function fill(row, file) {
	row.dataset.id = file.id;
	rows.set(file.id, row);
	row.querySelector(".name").textContent = file.name;
	row.querySelector(".name").title = file.name;
	for (const link of row.querySelectorAll(".thumb, .name")) link.href = file.url;
	row.querySelector("[data-do=download]").href = `${file.url}?download`;
	row.querySelector(".size").textContent = size(file.size);
	row.querySelector(".size").title = sizeExactly(file.size);
	const time = row.querySelector(".created");
	time.dateTime = file.created_at;
	time.textContent = when(file.created_at);
	time.title = exactly(file.created_at);
	row.querySelector(".expires")?.remove();
	if (file.expires_at) row.querySelector(".labels").prepend(expiry(file));
	row.querySelector(".tags").replaceChildren(...file.tags.map(tagLink));
	row.querySelector(".pick").setAttribute("aria-label", t("choose_file", { name: file.name }));
	for (const tool of row.querySelectorAll(".tool")) {
		const words = tool.querySelector(".words").textContent;
		tool.title = words;
		tool.setAttribute("aria-label", `${words}: ${file.name}`);
	}
	return row;
}

function equip(row) {
	const [pick, ...buttons] = tools.cloneNode(true).children;
	row.prepend(pick);
	row.querySelector(".tools").append(...buttons);
	return row;
}

function make(file) {
	const row = equip(blank.firstElementChild.cloneNode(true));
	row.querySelector(".thumb").replaceChildren(thumbnail(file));
	return fill(row, file);
}

// A row of the server's, read back into a file object.
function adopt(row) {
	const file = {
		id: row.dataset.id,
		name: row.querySelector(".name").textContent,
		size: Number(row.dataset.bytes),
		type: row.dataset.type,
		created_at: row.querySelector(".created").dateTime,
		expires_at: row.querySelector(".expires time")?.dateTime ?? null,
		tags: [...row.querySelectorAll(".tag")].map((tag) => tag.textContent),
		url: row.querySelector(".name").getAttribute("href"),
	};
	files.set(file.id, file);
	const image = row.querySelector(".thumb img");
	if (!image || (image.complete && !image.naturalWidth)) row.querySelector(".thumb").replaceChildren(image ? badge(file) : thumbnail(file));
	fill(equip(row), file);
}

export function rowOf(id) {
	const row = rows.get(id);
	return row?.isConnected ? row : null;
}

export function fileOf(node) {
	return files.get(node.closest("[data-id]")?.dataset.id);
}

// --- order and filter, as the server has them ---

export function filters() {
	const query = new URLSearchParams();
	for (const [key, value] of new FormData(search))
		if (value && !(key === "sort" && value === "-created_at")) query.set(key, value);
	return query;
}

function byCodePoint(a, b) {
	const [left, right] = [[...a], [...b]];
	const at = left.findIndex((c, i) => c !== right[i]);
	return at < 0 ? left.length - right.length : left[at].codePointAt(0) - (right[at]?.codePointAt(0) ?? -1);
}

function order(a, b) {
	const sort = search.elements.sort.value;
	const key = sort.replace("-", "");
	const by = key === "size" ? a.size - b.size : byCodePoint(String(a[key]), String(b[key]));
	return (by || byCodePoint(a.id, b.id)) * (sort.startsWith("-") ? -1 : 1);
}

function matches(file) {
	const query = filters();
	const [q, type, tag] = ["q", "type", "tag"].map((key) => query.get(key));
	return (!q || file.name.toLowerCase().includes(q.toLowerCase()))
		&& (!type || (type.endsWith("/*") ? file.type.startsWith(type.slice(0, -1)) : file.type === type))
		&& (!tag || file.tags.includes(tag));
}

// --- rows come and go ---

// What stands in the place of rows, or above them where they may not be all there is.
function instead(n) {
	document.getElementById("empty")?.remove();
	if (!missing && (n || cursor)) return;
	const box = element("div", { id: "empty", className: "empty" });
	const filtered = !missing && filters().size;
	box.append(element("p", { textContent: missing || t(filtered ? "nothing" : "empty") }));
	if (filtered) box.append(element("a", { className: "button quiet", href: "/", textContent: t("all_files") }));
	list.before(box);
}

function summarize() {
	const n = list.children.length;
	const text = cursor ? t("shown_more", { n: number(n) }) : tn("shown", n);
	shown.textContent = n && !missing ? text : "";
	document.documentElement.classList.toggle("bare", !n && !cursor && !missing && !filters().size);
	instead(n);
	changed();
	return n ? text : t("nothing");
}

// The row that the file comes before, found by halving: the rows are in order. Undefined where it is the last.
function follower(file) {
	let [from, to] = [0, list.children.length];
	while (from < to) {
		const middle = (from + to) >> 1;
		if (order(file, files.get(list.children[middle].dataset.id)) < 0) to = middle;
		else from = middle + 1;
	}
	return list.children[from];
}

function place(file) {
	hidden.delete(file.id);
	files.set(file.id, file);
	rowOf(file.id)?.remove();
	const after = follower(file);
	if (!matches(file) || (!after && cursor)) return null;
	const row = make(file);
	list.insertBefore(row, after ?? null);
	return row;
}

// Puts files where the order wants them. Null where the list does not show one: filtered out, or on a page not loaded yet.
export function putAll(group) {
	const placed = group.map(place);
	summarize();
	return placed;
}

export function put(file) {
	return putAll([file])[0];
}

// Takes the rows away and remembers that their files are not to be shown. The focus goes to the next row if it stood in one of them.
export function hideAll(group) {
	for (const { id } of group) {
		const row = rowOf(id);
		const next = row?.nextElementSibling ?? row?.previousElementSibling;
		hidden.add(id);
		if (row?.contains(document.activeElement)) (next?.querySelector(".name") ?? list).focus();
		row?.remove();
	}
	summarize();
}

export function forget(id) {
	rowOf(id)?.remove();
	rows.delete(id);
	files.delete(id);
	hidden.delete(id);
	summarize();
}

// Undefined where the page has not seen it, null where it is on its way out.
export function known(id) {
	return hidden.has(id) ? null : files.get(id);
}

export function all() {
	return [...list.children].map((row) => files.get(row.dataset.id));
}

export function neighbour(file, by) {
	const ids = [...list.children].map((row) => row.dataset.id);
	const at = ids.indexOf(file.id);
	return at < 0 ? undefined : files.get(ids[at + by]);
}

// --- pages ---

function offer(text, failed) {
	const button = element("button", { type: "button", className: "button quiet", textContent: failed ? t("retry") : t("next_page") });
	button.addEventListener("click", () => load());
	more.replaceChildren(...(text ? [element("p", { className: "wrong", textContent: text })] : []), button);
}

// A list that the server could not give lacks what it did not get to write down yet: what this page knows of it stays.
function keepUnregistered() {
	for (const file of [...files.values()]) if (file.registered === false && !hidden.has(file.id) && !rowOf(file.id)) place(file);
}

async function load() {
	if (asking) return;
	const mine = new AbortController();
	const query = filters();
	asking = mine;
	if (cursor) query.set("cursor", cursor);
	list.setAttribute("aria-busy", "true");
	list.classList.toggle("stale", !cursor);
	try {
		const tries = cursor ? 2 : 0; // without a list people are told at once; it is asked for again below
		const page = await (await call("GET", `/files?${query}`, { signal: mine.signal, tries })).json();
		if (mine.signal.aborted) return;
		if (!query.has("cursor")) list.replaceChildren();
		if (missing) again = setTimeout(fillUp, FOLLOW_MS);
		missing = "";
		cursor = page.next_cursor;
		for (const file of page.files) {
			if (hidden.has(file.id) || rowOf(file.id)) continue;
			files.set(file.id, file);
			list.append(make(file));
		}
		keepUnregistered();
		more.replaceChildren();
		if (cursor) offer();
		announce(summarize());
	} catch (error) {
		if (error.name === "AbortError") return;
		if (query.has("cursor")) {
			offer(error.message, true);
			announce(error.message);
		} else if (error.status === 503 || !error.status) {
			more.replaceChildren();
			wait(error.status ? t("unavailable") : error.message);
		} else { // the list's end may be far out of sight
			more.replaceChildren();
			note(error.message, { failed: true, action: { label: t("retry"), run: reload } });
		}
	} finally {
		if (asking === mine) {
			asking = null;
			list.removeAttribute("aria-busy");
			list.classList.remove("stale");
			watch();
		}
	}
}

// There is no list for now: says so, shows what of the rows at hand the filters want, and asks again until there is one.
function wait(why) {
	if (why !== missing) announce(why);
	missing = why;
	const wanted = all().filter(matches).sort(order).map((file) => rowOf(file.id));
	if (wanted.length !== list.children.length || wanted.some((row, i) => row !== list.children[i])) list.replaceChildren(...wanted); // else the focus stays
	summarize();
	clearTimeout(again);
	again = setTimeout(reload, AGAIN_MS);
}

// Rows follow the database's return: the first list may lack some that were answered before.
async function fillUp() {
	const query = filters();
	try {
		const page = await (await call("GET", `/files?${query}`)).json();
		if (String(filters()) === String(query)) putAll(page.files.filter((file) => !hidden.has(file.id) && !rowOf(file.id)));
	} catch { /* whoever asks for more is told */ }
}

const watcher = new IntersectionObserver((entries) => {
	if (cursor && !more.querySelector(".wrong") && entries.some((entry) => entry.isIntersecting)) load();
}, { rootMargin: "800px" });

// Observing anew tells at once whether the end is (still) in sight.
function watch() {
	watcher.unobserve(more);
	if (cursor && !more.querySelector(".wrong")) watcher.observe(more);
}

// The list from its beginning, after a change of filter or sort. The old rows stay until the new ones are there.
function reload() {
	asking?.abort();
	asking = null;
	cursor = null;
	clearTimeout(again);
	showTag(filters().get("tag"));
	return load();
}

let typing = false; // what is typed in one go is one step back, not a step for each letter

// The address follows the filters, so that it can be shared, and the browser's Back undoes them.
function follow(typed = false) {
	const query = filters();
	const address = query.size ? `/?${query}` : "/";
	if (address !== location.pathname + location.search) history[typed && typing ? "replaceState" : "pushState"](null, "", address);
	typing = typed;
	reload();
}

// The filters follow the address.
function goBack() {
	const asked = new URLSearchParams(location.search);
	const value = (key) => asked.get(key) || (key === "sort" ? "-created_at" : "");
	if (["q", "type", "sort", "tag"].every((key) => (search.elements[key]?.value ?? "") === value(key))) return;
	for (const key of ["q", "type", "sort"]) search.elements[key].value = value(key);
	typing = false;
	wearTag(value("tag"));
	reload();
}

function showTag(tag) {
	if (!tag) {
		filter.replaceChildren();
		return;
	}
	const clear = element("a", { className: "button quiet", href: "/", textContent: t("all_files") });
	const line = element("p", { className: "filter" });
	line.append(`${t("tagged")} `, element("span", { className: "tag", textContent: tag, dir: "auto" }), " ", clear);
	filter.replaceChildren(line);
}

function wearTag(tag) {
	search.querySelector("[name=tag]")?.remove();
	if (tag) search.append(element("input", { type: "hidden", name: "tag", value: tag }));
}

// A tag of a row, "all files" beside the filter, or "all files" where nothing was found.
function clickedLink(event) {
	const link = event.target.closest("a.tag, #filter a, #empty a");
	if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
	event.preventDefault();
	wearTag(link.matches(".tag") ? link.textContent : null);
	if (link.matches("#empty a")) search.elements.q.value = search.elements.type.value = "";
	follow();
	(filter.querySelector("a") ?? search.elements.q).focus();
}

// What is said of time ages.
function refresh() {
	for (const row of list.children) {
		const file = files.get(row.dataset.id);
		row.querySelector(".created").textContent = when(file.created_at);
		if (file.expires_at) row.querySelector(".expires time").textContent = when(file.expires_at);
	}
}

export function start(whenChanged) {
	let timer;
	changed = whenChanged;
	cursor = more.querySelector("[data-cursor]")?.dataset.cursor ?? null;
	for (const row of list.children) adopt(row);
	if (cursor) offer();
	search.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(timer); follow(true); });
	search.addEventListener("change", (event) => { if (event.target.name !== "q") follow(); });
	search.addEventListener("input", (event) => {
		if (event.target.name !== "q") return;
		clearTimeout(timer);
		timer = setTimeout(follow, 250, true);
	});
	search.elements.q.addEventListener("blur", () => { typing = false; });
	document.addEventListener("click", clickedLink);
	addEventListener("popstate", goBack);
	goBack(); // a browser may bring another form back than the address says
	list.addEventListener("error", (event) => {
		if (event.target.matches(".thumb img")) event.target.replaceWith(badge(fileOf(event.target)));
	}, true);
	setInterval(refresh, 30000);
	if (list.dataset.state === "unavailable") wait(t("unavailable"));
	else summarize();
	watch();
}
