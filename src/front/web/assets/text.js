// Strings in the page's language, and what people read: sizes, times, speeds.

const strings = JSON.parse(document.getElementById("strings").textContent);
export const language = document.documentElement.lang;

export function t(key, values = {}) {
	return (strings[key] ?? key).replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}

const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte", "petabyte"];

export function size(bytes) {
	let unit = 0;
	while (bytes >= 1024 && unit < units.length - 1) {
		bytes /= 1024;
		unit++;
	}
	return new Intl.NumberFormat(language, {
		style: "unit", unit: units[unit], unitDisplay: unit ? "short" : "long",
		maximumFractionDigits: unit && bytes < 10 ? 1 : 0,
	}).format(bytes);
}

const dates = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });

export function when(iso) {
	const date = new Date(iso);
	const minutes = Math.round((date - Date.now()) / 60000);
	if (minutes > -60 && minutes <= 0) return relative.format(minutes, "minute");
	if (minutes > -60 * 24 && minutes <= 0) return relative.format(Math.round(minutes / 60), "hour");
	return dates.format(date);
}

export function exactly(iso) {
	return dates.format(new Date(iso));
}

export function duration(seconds) {
	const one = (value, unit) => new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short" }).format(value);
	if (!Number.isFinite(seconds)) return "–";
	if (seconds < 60) return one(Math.max(1, Math.round(seconds)), "second");
	if (seconds < 3600) return one(Math.round(seconds / 60), "minute");
	return one(Math.round(seconds / 360) / 10, "hour");
}

const announcer = document.getElementById("status");

// For those who listen instead of look.
export function announce(text) {
	announcer.textContent = "";
	requestAnimationFrame(() => { announcer.textContent = text; });
}

// A note at the foot of the page. action: {label, run}. Returns a function that takes it away.
export function toast(text, { action = null, failed = false, seconds = failed ? 12 : 6 } = {}) {
	const note = document.createElement("div");
	note.className = failed ? "toast failed" : "toast";
	const words = document.createElement("span");
	words.textContent = text;
	note.append(words);
	const remove = () => { clearTimeout(timer); note.remove(); };
	const timer = setTimeout(remove, seconds * 1000);
	if (action) {
		const button = document.createElement("button");
		button.type = "button";
		button.textContent = action.label;
		button.addEventListener("click", () => { remove(); action.run(); });
		note.append(button);
	}
	document.getElementById("toasts").append(note);
	announce(text);
	return remove;
}

// What an answer of the server says went wrong (RFC 9457), for people.
export function problem(status, body) {
	try {
		const { title, detail, request_id: id } = JSON.parse(body);
		return [detail || title, id && `(${id.slice(-12)})`].filter(Boolean).join(" ");
	} catch {
		return status ? `HTTP ${status}` : t("no_connection");
	}
}
