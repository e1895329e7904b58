// Looking at a file without leaving the list: images, audio, video, PDF and text.

import { announce, t } from "./text.js";

const TEXT_MAX = 256 * 1024;
const dialog = document.getElementById("preview");
const stage = dialog.querySelector(".stage");
const title = dialog.querySelector("h2");
let neighbours = () => [];
let current = null;
let turn = 0; // counts openings, so that a slow answer of an earlier one is dropped
let address = null; // of a blob, to be given back

function element(name, properties) {
	return Object.assign(document.createElement(name), properties);
}

async function text(file) {
	const answer = await fetch(file.url, { headers: { Range: `bytes=0-${TEXT_MAX - 1}` } });
	if (!answer.ok && answer.status !== 416) throw new Error(String(answer.status));
	const shown = element("pre", { tabIndex: 0 });
	shown.textContent = answer.ok ? await answer.text() : "";
	if (file.size > TEXT_MAX) shown.append("\n\n", t("truncated"));
	return shown;
}

// A stored PDF is served into a sandbox, where browsers do not start their viewer; so it is shown from memory.
async function pdf(file) {
	const answer = await fetch(file.url);
	if (!answer.ok) throw new Error(String(answer.status));
	address = URL.createObjectURL(new Blob([await answer.arrayBuffer()], { type: "application/pdf" }));
	return element("iframe", { src: address, title: file.name });
}

function isText(type) {
	return type.startsWith("text/") || /^application\/(json|xml|yaml|toml|javascript|sql|x-sh)$|[+](json|xml)$/.test(type);
}

async function view(file) {
	const family = file.type.split("/")[0];
	if (family === "image") return element("img", { src: file.url, alt: file.name });
	if (family === "video") return element("video", { src: file.url, controls: true, autoplay: true });
	if (family === "audio") return element("audio", { src: file.url, controls: true, autoplay: true });
	if (file.type === "application/pdf") return pdf(file);
	if (isText(file.type)) return text(file);
	return element("p", { textContent: t("no_preview") });
}

function clear() {
	stage.replaceChildren();
	if (address) URL.revokeObjectURL(address);
	address = null;
}

async function show(file) {
	const mine = ++turn;
	current = file;
	title.textContent = file.name;
	dialog.querySelector("[data-do=download]").href = `${file.url}?download`;
	clear();
	stage.append(element("p", { textContent: t("loading") }));
	let shown;
	try {
		shown = await view(file);
	} catch {
		shown = element("p", { textContent: t("no_preview") });
	}
	if (mine !== turn || !dialog.open) return;
	shown.addEventListener("error", () => stage.replaceChildren(element("p", { textContent: t("no_preview") })));
	stage.replaceChildren(shown);
	announce(file.name);
}

function step(by) {
	const files = neighbours();
	const at = files.findIndex((file) => file.id === current.id);
	const next = files[at + by];
	if (at >= 0 && next) show(next);
}

export function open(file) {
	if (!dialog.open) dialog.showModal();
	show(file);
}

// files: a function that gives the files of the list, in order.
export function start(files) {
	neighbours = files;
	dialog.addEventListener("close", () => {
		turn++;
		clear();
	});
	dialog.addEventListener("click", (event) => {
		const action = event.target.closest("[data-do]")?.dataset.do;
		if (action === "close" || event.target === dialog) dialog.close();
		else if (action === "previous") step(-1);
		else if (action === "next") step(1);
	});
	dialog.addEventListener("keydown", (event) => {
		if (event.target.closest("pre, video, audio")) return;
		if (event.key === "ArrowLeft") step(-1);
		if (event.key === "ArrowRight") step(1);
	});
}
