// Sending files: a queue, a few at a time, each with progress, cancel and retry.

import { copy, link, Problem, retryAfter } from "./api.js";
import { announce, note } from "./notes.js";
import { startTaking } from "./sources.js";
import { duration, number, percent, size, t, tn } from "./text.js";

const AT_ONCE = 3;
const SMALL = 256 * 1024; // up to which a file's round trip takes longer than its bytes: more of them at once are quicker together
const SMALL_AT_ONCE = 5; // of the six connections that a browser has to a server: one is left for the list
const TRIES = 6; // of one file, as long as the server asks for patience or the connection breaks
const LINES = 50; // of the panel; more would tell nobody more, and thousands make the browser crawl
const FILE_COST = 64 * 1024; // bytes that a file's round trip and its place on the disk are worth: small files take their time too
const panel = document.getElementById("transfers");
const list = panel.querySelector("ul");
const sum = panel.querySelector(".sum");
const others = panel.querySelector(".others");
const blank = document.getElementById("transfer").content;
const form = document.getElementById("upload");
const title = document.title;
let transfers = []; // of this batch: from the first file after a rest until the next rest
let stored = () => {}; // is given the files that were stored lately

// run, but so often a second at most; its now() does not wait.
function atMost(times, run) {
	let timer = 0;
	let last = -Infinity;
	const now = () => {
		clearTimeout(timer);
		timer = 0;
		last = performance.now();
		run();
	};
	const soon = () => {
		const wait = last + 1000 / times - performance.now();
		if (wait <= 0) now();
		else timer ||= setTimeout(now, wait);
	};
	return Object.assign(soon, { now });
}

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

let rate = new Speed(); // of bytes
let progress = new Speed(); // of bytes and files: what is left is measured by it

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
		this.item = null; // its line in the panel, while it has one
		this.become("waiting", t("waiting"));
	}

	show() {
		if (this.item) return;
		this.item = blank.firstElementChild.cloneNode(true);
		this.part(".name").textContent = this.file.name;
		this.part("progress").setAttribute("aria-label", this.file.name);
		for (const button of this.item.querySelectorAll("button")) button.setAttribute("aria-label", `${button.textContent}: ${this.file.name}`);
		this.part("[data-do=retry]").addEventListener("click", () => {
			this.part("[data-do=cancel]").focus();
			this.again();
		});
		this.part("[data-do=cancel]").addEventListener("click", () => this.cancel());
		this.become(this.state, this.text);
		list.append(this.item);
	}

	conceal() {
		this.item?.remove();
		this.item = null;
	}

	part(selector) {
		return this.item.querySelector(selector);
	}

	get over() {
		return ["stored", "failed", "cancelled"].includes(this.state);
	}

	become(state, text) {
		this.state = state;
		if (this.item) {
			this.item.dataset.state = state;
			this.part("[data-do=retry]").hidden = state !== "failed";
		}
		this.say(text);
	}

	say(text) {
		this.text = text;
		if (this.item) this.part(".detail").textContent = text;
	}

	start() {
		const request = new XMLHttpRequest();
		this.request = request;
		this.speed = new Speed();
		this.show();
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
			this.conceal();
			arrived.push(this.stored);
			handOver();
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
		this.timer = setTimeout(() => this.resume(), seconds * 1000);
		pump();
	}

	resume() {
		clearTimeout(this.timer);
		this.become("waiting", t("waiting"));
		pump();
	}

	fail(problem) {
		this.become("failed", t("failed", { why: problem.message }));
		this.sent = 0;
		if (list.children.length > LINES) this.conceal();
		announce(t("failed_long", { name: this.file.name, why: problem.message }));
		pump();
	}

	again() {
		this.tries = 0;
		this.resume();
	}

	cancel() {
		const row = this.item?.nextElementSibling ?? this.item?.previousElementSibling;
		const inside = this.item?.contains(document.activeElement);
		const failed = this.state === "failed";
		clearTimeout(this.timer);
		this.become("cancelled", "");
		this.request?.abort();
		this.conceal();
		transfers = transfers.filter((transfer) => transfer !== this);
		if (inside) (row?.querySelector("button:not([hidden])") ?? document.getElementById("picker")).focus();
		if (!failed) announce(t("cancelled", { name: this.file.name }));
		pump();
	}
}

// --- all of them ---

// Rows for the list, handed over together: one at a time, thousands of small files would keep the browser painting.
let arrived = [];
const handOver = atMost(2, () => {
	if (arrived.length) stored(arrived);
	arrived = [];
});

function total(of) {
	return transfers.reduce((sum, transfer) => sum + (transfer.state === "failed" ? 0 : of(transfer)), 0);
}

const report = atMost(10, () => {
	const count = total(() => 1);
	const done = total((transfer) => Number(transfer.state === "stored"));
	const bytes = total((transfer) => transfer.file.size);
	const sent = total((transfer) => transfer.sent);
	const left = bytes - sent + (count - done) * FILE_COST;
	rate.add(sent);
	progress.add(sent + done * FILE_COST);
	if (count < 2) sum.textContent = ""; // its own line says it all
	else sum.textContent = progress.value && left
		? t("sum", { done: number(done), all: number(count), speed: size(rate.value), left: duration(left / progress.value) })
		: t("sum_short", { done: number(done), all: number(count) });
	const running = transfers.some((transfer) => !transfer.over);
	const part = count ? 1 - left / (bytes + count * FILE_COST) : 0;
	document.title = running ? `${percent(Math.floor(part * 100) / 100)} · ${title}` : title;
	panel.querySelector("[data-do=stop]").hidden = !running;
	panel.querySelector("[data-do=clear]").hidden = running;
	panel.querySelector("[data-do=again]").hidden = transfers.length - count < 2;
	panel.hidden = !list.children.length;
});

// As many lines as there is room for, those of running and of failed files first.
function arrange() {
	const unseen = transfers.filter((transfer) => !transfer.item && transfer.state !== "stored");
	const room = Math.max(0, LINES - list.children.length);
	for (const transfer of unseen.slice(0, room)) transfer.show();
	others.textContent = unseen.length > room ? t("others", { n: number(unseen.length - room) }) : "";
}

// Nothing moves any more: say how it went, and forget what went well.
function rest() {
	const done = transfers.filter((transfer) => transfer.state === "stored").map((transfer) => transfer.stored);
	const failed = transfers.filter((transfer) => transfer.state === "failed");
	transfers = failed;
	rate = new Speed();
	progress = new Speed();
	handOver.now();
	if (done.length) {
		note(tn("stored", done.length, { name: done[0].name }), {
			seconds: 8,
			action: { label: t(done.length > 1 ? "copy_links" : "copy_link"), run: () => copyLinks(done) },
		});
	}
	if (failed.length > 1) announce(tn("not_stored", failed.length));
	report.now();
}

export async function copyLinks(files) {
	const text = files.map(link).join("\n");
	if (await copy(text)) note(tn("copied", files.length), { seconds: 3 });
	else note(t("copy_failed", { url: text }), { seconds: 20 });
}

function pump() {
	let running = transfers.filter((transfer) => transfer.state === "sending").length;
	for (const transfer of transfers) {
		if (transfer.state !== "waiting") continue;
		if (running >= (transfer.file.size <= SMALL ? SMALL_AT_ONCE : AT_ONCE)) break;
		running++;
		transfer.start();
	}
	arrange();
	report();
	if (transfers.length && transfers.every((transfer) => transfer.over)) rest();
}

export function send(files) {
	const fresh = [...files].map((file) => new Transfer(file));
	if (!fresh.length) return;
	transfers.push(...fresh);
	announce(tn("sending", fresh.length));
	pump();
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
		if (!action || !event.target.closest(".head")) return;
		if (action === "again") {
			for (const transfer of transfers.filter((each) => each.state === "failed")) transfer.again();
			report.now();
			panel.querySelector("[data-do=stop]").focus();
		} else { // the last first: none starts because another ended
			for (const transfer of transfers.filter((each) => action === "clear" || !each.over).reverse()) transfer.cancel();
			picker.focus();
		}
	});
	addEventListener("online", () => { for (const transfer of transfers.filter((each) => each.state === "pausing")) transfer.resume(); });
	addEventListener("beforeunload", (event) => {
		if (transfers.some((transfer) => !transfer.over)) event.preventDefault();
	});
	startTaking(send);
	nameOptions();
}
