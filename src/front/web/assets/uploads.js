// Sending files: a queue, a few at a time, each with progress, cancel and retry.

import { copy, link, Problem, retryAfter } from "./api.js";
import { announce, note } from "./notes.js";
import { duration, percent, size, t, tn } from "./text.js";

const AT_ONCE = 3;
const TRIES = 6; // of one file, as long as the server asks for patience or the connection breaks
const panel = document.getElementById("transfers");
const list = panel.querySelector("ul");
const sum = panel.querySelector(".sum");
const blank = document.getElementById("transfer").content;
const form = document.getElementById("upload");
const title = document.title;
let transfers = []; // of this batch: from the first file after a rest until the next rest
let stored = () => {};

// --- speed ---

// Bytes a second over the last few seconds: steady enough to tell the time left.
class Speed {
	samples = [];

	add(bytes) {
		const now = performance.now();
		this.samples.push([now, bytes]);
		while (this.samples.length > 2 && now - this.samples[0][0] > 5000) this.samples.shift();
	}

	get value() {
		const [first, last] = [this.samples[0], this.samples.at(-1)];
		return first && last[0] - first[0] > 200 ? Math.max(0, (last[1] - first[1]) / ((last[0] - first[0]) / 1000)) : 0;
	}
}

let total = new Speed();

// --- one file ---

// What the form says at the moment of choosing is what the file gets.
function address(file) {
	const query = new URLSearchParams();
	for (const key of ["tags", "expires_in"]) {
		const value = form.elements[key].value.trim();
		if (value) query.set(key, value);
	}
	return `/files/${encodeURIComponent(file.name || "unnamed")}${query.size ? `?${query}` : ""}`;
}

function freshKey() {
	return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// state: waiting → sending → stored | failed | pausing → waiting …; cancelled ends any.
class Transfer {
	constructor(file) {
		this.file = file;
		this.url = address(file);
		this.key = freshKey();
		this.tries = 0;
		this.sent = 0;
		this.item = blank.firstElementChild.cloneNode(true);
		this.part(".name").textContent = file.name;
		this.part("progress").setAttribute("aria-label", file.name);
		for (const button of this.item.querySelectorAll("button")) button.setAttribute("aria-label", `${button.textContent}: ${file.name}`);
		this.part("[data-do=retry]").addEventListener("click", () => this.again());
		this.part("[data-do=cancel]").addEventListener("click", () => this.cancel());
		this.become("waiting", t("waiting"));
	}

	part(selector) {
		return this.item.querySelector(selector);
	}

	get over() {
		return ["stored", "failed", "cancelled"].includes(this.state);
	}

	become(state, text) {
		this.state = state;
		this.item.dataset.state = state;
		this.part("[data-do=retry]").hidden = state !== "failed";
		this.say(text);
	}

	say(text) {
		this.part(".detail").textContent = text;
	}

	start() {
		const request = new XMLHttpRequest();
		this.request = request;
		this.speed = new Speed();
		this.become("sending", t("sum_short", { done: size(0), all: size(this.file.size) }));
		request.open("PUT", this.url);
		request.setRequestHeader("Accept", "application/json");
		request.setRequestHeader("Content-Type", this.file.type || "application/octet-stream");
		request.setRequestHeader("Idempotency-Key", this.key);
		request.upload.addEventListener("progress", (event) => this.progress(event.loaded));
		request.addEventListener("load", () => this.answered());
		request.addEventListener("error", () => this.broke());
		request.send(this.file);
	}

	progress(sent) {
		const whole = this.file.size;
		this.sent = sent;
		this.speed.add(sent);
		this.part("progress").value = whole ? sent / whole : 1;
		this.part(".percent").textContent = percent(whole ? sent / whole : 1);
		if (sent >= whole) {
			this.say(t("finishing"));
		} else {
			const speed = this.speed.value;
			const [done, all] = [size(sent), size(whole)];
			this.say(speed ? t("sum", { done, all, speed: size(speed), left: duration((whole - sent) / speed) }) : t("sum_short", { done, all }));
		}
		report();
	}

	answered() {
		const { status, responseText } = this.request;
		if (status === 201 || status === 202) {
			this.stored = JSON.parse(responseText);
			this.become("stored", "");
			this.sent = this.file.size;
			this.item.remove();
			stored(this.stored);
			pump();
			return;
		}
		const problem = new Problem(status, responseText);
		if (status === 422) this.key = freshKey(); // the first try got through after all, and the file has changed since
		if (status === 503) this.pause(retryAfter(this.request.getResponseHeader("Retry-After")), problem);
		else this.fail(problem);
	}

	// No answer: it may have been stored or not, which is why the key stays the same.
	broke() {
		this.pause(Math.min(2 ** (this.tries + 1), 30), new Problem(0));
	}

	pause(seconds, problem) {
		if (++this.tries >= TRIES) {
			this.fail(problem);
			return;
		}
		this.become("pausing", t("retrying", { seconds: duration(seconds), why: problem.message }));
		this.sent = 0;
		this.timer = setTimeout(() => {
			this.become("waiting", t("waiting"));
			pump();
		}, seconds * 1000);
		pump();
	}

	fail(problem) {
		this.become("failed", t("failed", { why: problem.message }));
		this.sent = 0;
		announce(t("failed_long", { name: this.file.name, why: problem.message }));
		pump();
	}

	again() {
		this.tries = 0;
		this.become("waiting", t("waiting"));
		this.part("[data-do=cancel]").focus();
		pump();
	}

	cancel() {
		const row = this.item.nextElementSibling ?? this.item.previousElementSibling;
		const inside = this.item.contains(document.activeElement);
		const failed = this.state === "failed";
		clearTimeout(this.timer);
		this.become("cancelled", "");
		this.request?.abort();
		this.item.remove();
		transfers = transfers.filter((transfer) => transfer !== this);
		if (inside) (row?.querySelector("button:not([hidden])") ?? document.getElementById("picker")).focus();
		if (!failed) announce(t("cancelled", { name: this.file.name }));
		pump();
	}
}

// --- all of them ---

function report() {
	const wanted = transfers.filter((transfer) => transfer.state !== "failed");
	const done = wanted.filter((transfer) => transfer.state === "stored").length;
	const bytes = wanted.reduce((all, transfer) => all + transfer.file.size, 0);
	const sent = wanted.reduce((all, transfer) => all + transfer.sent, 0);
	total.add(sent);
	const speed = total.value;
	if (wanted.length < 2) sum.textContent = ""; // its own line says it all
	else sum.textContent = speed && sent < bytes
		? t("sum", { done, all: wanted.length, speed: size(speed), left: duration((bytes - sent) / speed) })
		: t("sum_short", { done, all: wanted.length });
	const running = transfers.some((transfer) => !transfer.over);
	document.title = running ? `${percent(bytes ? Math.floor((sent / bytes) * 100) / 100 : 0)} · ${title}` : title;
	panel.querySelector("[data-do=stop]").hidden = !running;
	panel.querySelector("[data-do=clear]").hidden = running;
	panel.hidden = !list.children.length;
}

// Nothing moves any more: say how it went, and forget what went well.
function rest() {
	const done = transfers.filter((transfer) => transfer.state === "stored").map((transfer) => transfer.stored);
	const failed = transfers.filter((transfer) => transfer.state === "failed");
	transfers = failed;
	total = new Speed();
	if (done.length) {
		note(tn("stored", done.length, { name: done[0].name }), {
			seconds: 8,
			action: { label: t(done.length > 1 ? "copy_links" : "copy_link"), run: () => copyLinks(done) },
		});
	}
	if (failed.length > 1) announce(tn("not_stored", failed.length));
	report();
}

export async function copyLinks(files) {
	const text = files.map(link).join("\n");
	if (await copy(text)) note(tn("copied", files.length), { seconds: 3 });
	else note(t("copy_failed", { url: text }), { seconds: 20 });
}

function pump() {
	let running = transfers.filter((transfer) => transfer.state === "sending").length;
	for (const transfer of transfers) {
		if (running >= AT_ONCE) break;
		if (transfer.state !== "waiting") continue;
		running++;
		transfer.start();
	}
	report();
	if (transfers.length && transfers.every((transfer) => transfer.over)) rest();
}

export function send(files) {
	const fresh = [...files].map((file) => new Transfer(file));
	if (!fresh.length) return;
	transfers.push(...fresh);
	list.append(...fresh.map((transfer) => transfer.item));
	announce(tn("sending", fresh.length));
	pump();
}

// --- where files come from ---

// Browsers call every pasted picture image.png: the time tells them apart.
function named(file) {
	if (file.name !== "image.png") return file;
	const now = new Date(Date.now() - new Date().getTimezoneOffset() * 60000).toISOString();
	return new File([file], `${now.slice(0, 10)} ${now.slice(11, 19).replaceAll(":", ".")}.png`, { type: file.type });
}

async function filesOf(entry) {
	if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
	const reader = entry.createReader();
	const found = [];
	for (;;) {
		const some = await new Promise((done, failed) => reader.readEntries(done, failed)); // in portions; an empty one is the last
		if (!some.length) return found;
		for (const inner of some) found.push(...await filesOf(inner));
	}
}

// Entries must be taken before the first await: the browser empties the transfer when the event is over.
async function dropped(transfer) {
	const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
	if (!entries.some((entry) => entry.isDirectory)) {
		send(transfer.files);
		return;
	}
	for (const entry of entries) {
		try {
			send(await filesOf(entry));
		} catch {
			note(t("no_folder", { name: entry.name }), { failed: true });
		}
	}
}

function startDropping() {
	const root = document.documentElement;
	let depth = 0; // dragenter and dragleave come for every element on the way
	const over = (by) => {
		depth = Math.max(0, depth + by);
		root.classList.toggle("dropping", depth > 0);
	};
	const withFiles = (run) => (event) => {
		if (!event.dataTransfer?.types.includes("Files")) return;
		event.preventDefault();
		run(event);
	};
	addEventListener("dragenter", withFiles(() => over(1)));
	addEventListener("dragleave", withFiles(() => over(-1)));
	addEventListener("dragover", withFiles((event) => { event.dataTransfer.dropEffect = "copy"; }));
	addEventListener("drop", withFiles((event) => {
		over(-depth);
		if (!document.querySelector("dialog[open]")) dropped(event.dataTransfer);
	}));
}

function nameOptions() {
	const heading = document.getElementById("options-title");
	const plain = heading.textContent;
	const { tags, expires_in: keep } = form.elements;
	const show = () => {
		const set = [tags.value.trim(), keep.value && keep.selectedOptions[0].textContent].filter(Boolean);
		heading.textContent = set.length ? `${plain}: ${set.join(" · ")}` : plain;
	};
	form.addEventListener("input", show);
	show();
}

export function start(whenStored) {
	const picker = document.getElementById("picker");
	stored = whenStored;
	picker.required = false;
	picker.addEventListener("change", () => {
		send(picker.files);
		picker.value = "";
	});
	form.addEventListener("submit", (event) => event.preventDefault());
	panel.addEventListener("click", (event) => {
		const action = event.target.closest("button")?.dataset.do;
		if (action !== "stop" && action !== "clear") return;
		for (const transfer of transfers.filter((each) => action === "clear" || !each.over)) transfer.cancel();
		picker.focus();
	});
	addEventListener("paste", (event) => {
		const files = event.clipboardData?.files;
		if (!files?.length || document.querySelector("dialog[open]")) return;
		event.preventDefault();
		send([...files].map(named));
	});
	addEventListener("beforeunload", (event) => {
		if (transfers.some((transfer) => !transfer.over)) event.preventDefault();
	});
	startDropping();
	nameOptions();
}
