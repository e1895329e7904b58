// Strings in the page's language, and what people read: sizes, times, speeds.

const strings = JSON.parse(document.getElementById("strings").textContent);
const language = document.documentElement.lang;
// "en-GB" rather than "en" where the person reads that: dates and numbers differ.
const locale = navigator.languages.find((tag) => tag.split("-")[0] === language) ?? language;

const plurals = new Intl.PluralRules(locale);
const numbers = new Intl.NumberFormat(locale);
const percents = new Intl.NumberFormat(locale, { style: "percent" });
const dates = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
const days = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte", "petabyte"];

export function t(key, values = {}) {
	return (strings[key] ?? key).replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}

// The string `key_one` or `key_other`, as the language counts; {n} is the number.
export function tn(key, n, values = {}) {
	const form = `${key}_${plurals.select(n)}`;
	return t(form in strings ? form : `${key}_other`, { n: number(n), ...values });
}

export function number(n) {
	return numbers.format(n);
}

export function percent(part) {
	return percents.format(part);
}

const measures = new Map(); // by unit and the rest: making one takes longer than all the rest of a row

function measure(value, unit, digits = 0, unitDisplay = "short") {
	const key = `${unit} ${digits} ${unitDisplay}`;
	if (!measures.has(key)) measures.set(key, new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay, maximumFractionDigits: digits }));
	return measures.get(key).format(value);
}

export function size(bytes) {
	let unit = 0;
	while (bytes >= 999.5 && unit < units.length - 1) {
		bytes /= 1000;
		unit++;
	}
	return unit ? measure(bytes, units[unit], bytes < 10 ? 1 : 0) : measure(bytes, "byte", 0, "long");
}

export function sizeExactly(bytes) {
	return bytes < 1000 ? size(bytes) : t("exact_bytes", { size: size(bytes), n: number(bytes) });
}

export function duration(seconds) {
	if (!Number.isFinite(seconds)) return "–";
	if (seconds < 60) return measure(Math.max(1, Math.ceil(seconds)), "second");
	if (seconds < 3600) return measure(Math.round(seconds / 60), "minute");
	return measure(seconds / 3600, "hour", 1);
}

// Near times by their distance, others by their date; works for both sides of now.
export function when(iso) {
	const date = new Date(iso);
	const minutes = (date - Date.now()) / 60000;
	const distance = Math.abs(minutes);
	// What has been kept for seven days a moment ago expires in seven days, not in six and a bit.
	const whole = minutes > 0 ? Math.round : Math.trunc;
	if (distance < 1) return relative.format(0, "second");
	if (distance < 60) return relative.format(whole(minutes), "minute");
	if (distance < 60 * 24) return relative.format(whole(minutes / 60), "hour");
	if (distance < 60 * 24 * 7) return relative.format(whole(minutes / 60 / 24), "day");
	return days.format(date);
}

export function exactly(iso) {
	return dates.format(new Date(iso));
}
