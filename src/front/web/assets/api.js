// Talking to the server.

import { t } from "./text.js";

// What went wrong, in the server's own words where it sent a problem (RFC 9457).
export class Problem extends Error {
	constructor(status, body = "") {
		let problem = {};
		try {
			problem = JSON.parse(body) ?? {};
		} catch { /* a proxy's page, or nothing at all */ }
		const { title, detail, request_id: id } = problem;
		const said = [title, detail].filter(Boolean).join(": ") || (status ? `HTTP ${status}` : t("no_connection"));
		super(id ? `${said} (${t("request", { id })})` : said);
		this.status = status;
	}
}

// Seconds that a 503 asks to wait: a number or a date (RFC 9110 §10.2.3).
export function retryAfter(value) {
	const seconds = /^\d+$/.test(value ?? "") ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
	return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), 120) : 2;
}

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

// tries: how often a 503 is asked again, after what it says.
export async function call(method, url, { body, headers = {}, tries = 2, ...rest } = {}) {
	const answer = await fetch(url, {
		method, ...rest,
		headers: { Accept: "application/json", ...(body && { "Content-Type": "application/merge-patch+json" }), ...headers },
		body: body && JSON.stringify(body),
	}).catch((error) => { throw error.name === "AbortError" ? error : new Problem(0); });
	if (answer.ok) return answer;
	if (answer.status === 503 && tries > 0) {
		await pause(retryAfter(answer.headers.get("Retry-After")));
		return call(method, url, { body, headers, tries: tries - 1, ...rest });
	}
	throw new Problem(answer.status, await answer.text());
}

export function link(file) {
	return new URL(file.url, location.href).href;
}

// True when it stands in the clipboard. Without TLS there is no clipboard API: the old command does it from a selection.
export async function copy(text) {
	if (navigator.clipboard && window.isSecureContext) {
		try {
			await navigator.clipboard.writeText(text);
			return true;
		} catch { /* refused: the other way may still do */ }
	}
	const before = document.activeElement;
	const area = Object.assign(document.createElement("textarea"), { value: text, className: "words", readOnly: true });
	(document.querySelector("dialog[open]") ?? document.body).append(area);
	area.select();
	const done = document.execCommand("copy");
	area.remove();
	before?.focus({ preventScroll: true });
	return done;
}
