// Where files come from besides the picker: dropped, folders included, and pasted.

import { note } from "./notes.js";
import { t } from "./text.js";

// A dialog hides where the uploads are shown: nothing is taken then.
function busy() {
	return document.querySelector("dialog[open]") !== null;
}

// Browsers call every pasted picture image.png: the time tells them apart.
function named(file) {
	if (file.name !== "image.png") return file;
	const now = new Date(Date.now() - new Date().getTimezoneOffset() * 60000).toISOString();
	return new File([file], `${now.slice(0, 10)} ${now.slice(11, 19).replaceAll(":", ".")}.png`, { type: file.type });
}

// What cannot be read is named; all else comes.
async function filesOf(entry) {
	const found = [];
	try {
		if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
		const reader = entry.createReader();
		for (;;) {
			const some = await new Promise((done, failed) => reader.readEntries(done, failed)); // in portions; an empty one is the last
			if (!some.length) break;
			for (const inner of some) found.push(...await filesOf(inner));
		}
	} catch {
		note(t("unreadable", { name: entry.name }), { failed: true });
	}
	return found;
}

// Entries must be taken before the first await: the browser empties the transfer when the event is over.
async function dropped(transfer, send) {
	const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
	if (!entries.some((entry) => entry.isDirectory)) {
		send(transfer.files);
		return;
	}
	for (const entry of entries) send(await filesOf(entry));
}

function startDropping(send) {
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
	addEventListener("dragover", withFiles((event) => { event.dataTransfer.dropEffect = busy() ? "none" : "copy"; }));
	addEventListener("drop", withFiles((event) => {
		over(-depth);
		if (!busy()) dropped(event.dataTransfer, send);
	}));
}

// send takes the files as they come.
export function startTaking(send) {
	startDropping(send);
	addEventListener("paste", (event) => {
		const files = event.clipboardData?.files;
		if (!files?.length || busy()) return;
		event.preventDefault();
		send([...files].map(named));
	});
}
