// The page: puts its parts together, and gives it its keys.

import * as files from "./files.js";
import { announce } from "./notes.js";
import { remove, undo } from "./removal.js";
import { t, tn } from "./text.js";
import * as uploads from "./uploads.js";
import * as viewer from "./viewer.js";

const list = document.getElementById("files");
const chosen = document.getElementById("chosen");
const choose = document.getElementById("choose");
const help = document.getElementById("help");
const letters = document.getElementById("letters");

// --- choosing several ---

function picked() {
	return [...list.querySelectorAll(".pick:checked")].map((pick) => files.fileOf(pick));
}

function showChosen() {
	const choosing = list.classList.contains("choosing");
	const n = choosing ? picked().length : 0;
	chosen.hidden = !choosing;
	choose.hidden = !choosing && !list.firstElementChild;
	chosen.querySelector(".count").textContent = tn("chosen", n);
	for (const button of chosen.querySelectorAll("[data-do=links], [data-do=delete]")) button.disabled = !n;
}

function setChoosing(on) {
	list.classList.toggle("choosing", on);
	choose.setAttribute("aria-pressed", String(on));
	choose.textContent = t(on ? "choose_done" : "choose");
	if (!on) for (const pick of list.querySelectorAll(".pick:checked")) pick.checked = false;
	showChosen();
}

function toggle(row) {
	const pick = row.querySelector(".pick");
	if (!list.classList.contains("choosing")) setChoosing(true);
	pick.checked = !pick.checked;
	showChosen();
	announce(tn("chosen", picked().length));
}

let last = null; // the box that was clicked last: with Shift, all between it and this one follow

function clickedBox(event) {
	const boxes = [...list.querySelectorAll(".pick")];
	const [from, to] = [boxes.indexOf(last), boxes.indexOf(event.target)];
	if (event.shiftKey && from >= 0)
		for (const box of boxes.slice(Math.min(from, to), Math.max(from, to) + 1)) box.checked = event.target.checked;
	last = event.target;
	showChosen();
}

function startChoosing() {
	choose.addEventListener("click", () => setChoosing(!list.classList.contains("choosing")));
	chosen.addEventListener("click", (event) => {
		const action = event.target.closest("button")?.dataset.do;
		if (action === "all") {
			const boxes = [...list.querySelectorAll(".pick")];
			const on = boxes.some((box) => !box.checked);
			for (const box of boxes) box.checked = on;
			showChosen();
		} else if (action === "links") {
			uploads.copyLinks(picked());
		} else if (action === "delete") {
			remove(picked());
			setChoosing(false);
			list.focus();
		}
	});
}

// --- one row ---

const actions = {
	link: (file) => uploads.copyLinks([file]),
	edit: (file) => viewer.open(file, { edit: true }),
	delete: (file) => remove([file]),
	open: (file) => viewer.open(file),
};

function clicked(event) {
	if (event.target.matches(".pick")) {
		clickedBox(event);
		return;
	}
	const file = files.fileOf(event.target);
	const action = event.target.closest("[data-do]")?.dataset.do ?? (event.target.closest(".name, .thumb") && "open");
	if (!file || !actions[action] || event.ctrlKey || event.metaKey || event.shiftKey) return;
	event.preventDefault();
	if (action === "open" && list.classList.contains("choosing")) toggle(event.target.closest(".file"));
	else actions[action](file);
}

// --- keys ---

const rowKeys = { e: "edit", F2: "edit", c: "link", Delete: "delete" };
const steps = { ArrowDown: (row) => row.nextElementSibling, ArrowUp: (row) => row.previousElementSibling, Home: () => list.firstElementChild, End: () => list.lastElementChild };

function pressedInRow(event, row) {
	const next = steps[event.key]?.(row);
	if (event.key in steps) {
		event.preventDefault();
		next?.querySelector(".name").focus();
	} else if (event.key === "x" && letters.checked) {
		toggle(row);
	} else if (rowKeys[event.key] && (event.key.length > 1 || letters.checked)) {
		event.preventDefault();
		actions[rowKeys[event.key]](files.fileOf(row));
	}
}

const pageKeys = {
	"/": () => document.querySelector("[name=q]").select(),
	u: () => document.getElementById("picker").click(),
	"?": () => help.showModal(),
	ArrowDown: () => list.querySelector(".name")?.focus(),
};

function pressed(event) {
	const typing = event.target.closest("input:not([type=checkbox]), select, textarea");
	if (typing?.name === "q" && event.key === "ArrowDown") {
		event.preventDefault();
		pageKeys.ArrowDown();
	}
	if (typing || document.querySelector("dialog[open]") || event.altKey) return;
	if (event.ctrlKey || event.metaKey) {
		if (event.key === "z" && undo()) event.preventDefault();
		return;
	}
	const row = event.target.closest(".file");
	if (event.key === "Escape" && list.classList.contains("choosing")) setChoosing(false);
	else if (row && (event.key in steps || rowKeys[event.key] || event.key === "x")) pressedInRow(event, row);
	else if (event.key === "ArrowDown" && event.target !== list && event.target !== document.body) return;
	else if (pageKeys[event.key] && (letters.checked || event.key === "ArrowDown")) {
		event.preventDefault();
		pageKeys[event.key]();
	}
}

function remembered() {
	try {
		return localStorage;
	} catch {
		return null; // forbidden by the person's settings
	}
}

// Single letters disturb those who speak to their computer (WCAG 2.1.4), so they can be turned off.
function startKeys() {
	letters.checked = remembered()?.getItem("letters") !== "off";
	letters.addEventListener("change", () => remembered()?.setItem("letters", letters.checked ? "on" : "off"));
	document.getElementById("help-button").addEventListener("click", () => help.showModal());
	help.addEventListener("click", (event) => { if (event.target === help) help.close(); });
	document.addEventListener("keydown", pressed);
}

document.documentElement.classList.add("js");
files.start(showChosen);
uploads.start((stored) => {
	for (const row of files.putAll(stored)) if (stored.length < 10) row?.classList.add("fresh");
});
viewer.start(remove);
startChoosing();
startKeys();
list.addEventListener("click", clicked);
