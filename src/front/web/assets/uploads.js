// Sending files: a queue, a few at a time, each with progress, cancel and retry.

import { announce, duration, problem, size, t } from "./text.js";

const AT_ONCE = 3;
const TRIES = 5;
const list = document.getElementById("transfers");
const blank = document.getElementById("transfer").content;
const form = document.getElementById("upload");
const waiting = [];
let running = 0;
let stored = () => {};

export function onStored(callback) {
	stored = callback;
}

// Labels of the form count at the moment of sending.
function address(file) {
	const query = new URLSearchParams();
	for (const key of ["tags", "expires_in"]) {
		const value = form.elements[key].value.trim();
		if (value) query.set(key, value);
	}
	const asked = query.toString();
	return `/files/${encodeURIComponent(file.name || "unnamed")}${asked ? `?${asked}` : ""}`;
}

// Bytes a second over the last few seconds: steady enough to tell the time left.
class Speed {
	samples = [];

	add(sent) {
		const now = performance.now();
		this.samples.push([now, sent]);
		while (this.samples.length > 2 && now - this.samples[0][0] > 5000) this.samples.shift();
	}

	get value() {
		const first = this.samples[0];
		const last = this.samples.at(-1);
		return first && last[0] > first[0] ? (last[1] - first[1]) / ((last[0] - first[0]) / 1000) : 0;
	}
}

class Transfer {
	constructor(file) {
		this.file = file;
		this.url = address(file);
		this.tries = 0;
		this.item = blank.firstElementChild.cloneNode(true);
		this.part(".name").textContent = file.name;
		this.retry = this.part("[data-do=retry]");
		this.cancel = this.part("[data-do=cancel]");
		this.retry.addEventListener("click", () => this.again());
		this.cancel.addEventListener("click", () => this.stop());
		for (const button of [this.retry, this.cancel]) button.setAttribute("aria-label", `${button.textContent}: ${file.name}`);
		this.part("progress").setAttribute("aria-label", file.name);
		this.say(t("waiting"));
		list.append(this.item);
	}

	part(selector) {
		return this.item.querySelector(selector);
	}

	say(text) {
		this.part(".detail").textContent = text;
	}

	start() {
		const request = new XMLHttpRequest();
		const speed = new Speed();
		this.request = request;
		this.item.classList.remove("failed");
		this.retry.hidden = true;
		request.open("PUT", this.url);
		request.setRequestHeader("Accept", "application/json");
		request.setRequestHeader("Content-Type", this.file.type || "application/octet-stream");
		request.upload.addEventListener("progress", (event) => {
			speed.add(event.loaded);
			this.part("progress").value = event.total ? event.loaded / event.total : 1;
			const left = (event.total - event.loaded) / speed.value;
			this.say(event.loaded < event.total
				? t("uploading", { sent: size(event.loaded), total: size(event.total), speed: size(speed.value), left: duration(left) })
				: t("finishing"));
		});
		request.addEventListener("load", () => this.answered());
		request.addEventListener("error", () => this.failed(0, ""));
		request.addEventListener("abort", () => this.ended());
		request.send(this.file);
	}

	answered() {
		const { status, responseText } = this.request;
		if (status === 201 || status === 202) {
			this.item.remove();
			announce(t("stored", { name: this.file.name }));
			stored(JSON.parse(responseText));
			this.ended();
		} else if (status === 503 && ++this.tries < TRIES) {
			this.later(Number(this.request.getResponseHeader("Retry-After")) || 2);
		} else {
			this.failed(status, responseText);
		}
	}

	later(seconds) {
		this.say(t("retrying", { seconds }));
		this.timer = setTimeout(() => this.start(), seconds * 1000);
	}

	failed(status, body) {
		const text = t("failed", { name: this.file.name, why: problem(status, body) });
		this.item.classList.add("failed");
		this.say(text);
		this.retry.hidden = false;
		announce(text);
		this.ended();
	}

	again() {
		this.tries = 0;
		this.say(t("waiting"));
		this.retry.hidden = true;
		waiting.push(this);
		pump();
	}

	stop() {
		const queued = waiting.indexOf(this);
		if (queued >= 0) waiting.splice(queued, 1);
		clearTimeout(this.timer);
		const next = this.item.nextElementSibling?.querySelector("button:not([hidden])") ?? document.getElementById("picker");
		this.item.remove();
		next.focus();
		announce(t("cancelled"));
		if (this.active && this.request.readyState !== XMLHttpRequest.DONE) this.request.abort();
		else this.ended();
	}

	// Gives its place to the next one, once.
	ended() {
		if (!this.active) return;
		this.active = false;
		running--;
		pump();
	}
}

function pump() {
	while (running < AT_ONCE && waiting.length) {
		const transfer = waiting.shift();
		transfer.active = true;
		running++;
		transfer.start();
	}
}

export function send(files) {
	for (const file of files) waiting.push(new Transfer(file));
	pump();
}

function dragsFiles(event) {
	return event.dataTransfer?.types.includes("Files");
}

export function start() {
	const picker = document.getElementById("picker");
	const root = document.documentElement;
	picker.required = false;
	picker.addEventListener("change", () => {
		send(picker.files);
		picker.value = "";
	});
	form.addEventListener("submit", (event) => event.preventDefault());
	addEventListener("dragover", (event) => {
		if (!dragsFiles(event)) return;
		event.preventDefault();
		event.dataTransfer.dropEffect = "copy";
		root.classList.add("dropping");
	});
	addEventListener("dragleave", (event) => {
		if (!event.relatedTarget) root.classList.remove("dropping");
	});
	addEventListener("drop", (event) => {
		root.classList.remove("dropping");
		if (!dragsFiles(event)) return;
		event.preventDefault();
		send(event.dataTransfer.files);
	});
	addEventListener("paste", (event) => {
		if (event.clipboardData?.files.length) send(event.clipboardData.files);
	});
	addEventListener("beforeunload", (event) => {
		if (running) event.preventDefault();
	});
}
