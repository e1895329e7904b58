// Deleting: rows go at once, the files themselves when the chance to take it back is over.

import { call } from "./api.js";
import { forget, hideAll, put, putAll } from "./files.js";
import { announce, note } from "./notes.js";
import { t, tn } from "./text.js";

const UNDO_SECONDS = 8;
const pending = []; // what can still be taken back, oldest first: {group, leave}

function settle(entry) {
	const at = pending.indexOf(entry);
	if (at >= 0) pending.splice(at, 1);
	return at >= 0;
}

function bringBack(group) {
	const rows = putAll(group).filter(Boolean);
	rows[0]?.querySelector(".name").focus();
}

async function carryOut(file, keepalive) {
	try {
		await call("DELETE", file.url, { keepalive, tries: keepalive ? 0 : 2 });
	} catch (problem) {
		if (problem.status !== 404) { // already gone is what was wanted
			put(file);
			note(t("not_deleted", { name: file.name, why: problem.message }), { failed: true });
			return;
		}
	}
	forget(file.id);
}

async function finish(entry, keepalive = false) {
	if (!settle(entry)) return;
	if (keepalive) {
		for (const file of entry.group) carryOut(file, true);
	} else {
		for (const file of entry.group) await carryOut(file, false); // one after the other: a large selection must not flood the server
	}
}

function takeBack(entry) {
	if (!settle(entry)) return;
	bringBack(entry.group);
	announce(tn("restored", entry.group.length, { name: entry.group[0].name }));
}

export function remove(group) {
	if (!group.length) return;
	const entry = { group };
	pending.push(entry);
	hideAll(group);
	entry.leave = note(tn("deleted", group.length, { name: group[0].name }), {
		seconds: UNDO_SECONDS,
		action: { label: t("undo"), run: () => takeBack(entry) },
		whenGone: () => finish(entry),
	});
}

export function undo() {
	const entry = pending.at(-1);
	if (!entry) return false;
	entry.leave(false);
	takeBack(entry);
	return true;
}

// Leaving the page ends the chance: what was deleted stays deleted.
addEventListener("pagehide", () => {
	for (const entry of [...pending]) {
		entry.leave(false);
		finish(entry, true);
	}
});
