// What the page says of itself: to those who listen instead of look, and as notes at its foot.

const region = document.getElementById("notes");

// A modal dialog makes the rest of the page inert, so what is said meanwhile must stand inside it.
function place() {
	return document.querySelector("dialog[open] .notes") ?? region;
}

export function announce(text) {
	const status = place().querySelector("[role=status]");
	status.textContent = "";
	setTimeout(() => { status.textContent = text; }, 50); // a change that is noticed even where the text is the same
}

// A note that goes by itself, but not while somebody points at it or stands in it. action: {label, run}; whenGone runs once, when
// the note left without the action. Returns a function that takes the note away.
export function note(text, { action = null, failed = false, seconds = failed ? 15 : 5, whenGone = () => {} } = {}) {
	const box = Object.assign(document.createElement("div"), { className: failed ? "note failed" : "note" });
	box.append(Object.assign(document.createElement("p"), { textContent: text }));
	let left = seconds * 1000;
	let since = 0;
	let timer = 0;
	const hold = () => {
		if (!timer) return;
		clearTimeout(timer);
		timer = 0;
		left -= performance.now() - since;
	};
	const go = () => {
		if (timer || box.matches(":hover, :focus-within")) return;
		since = performance.now();
		timer = setTimeout(leave, Math.max(left, 1000));
	};
	const leave = (done = true) => {
		clearTimeout(timer);
		if (!box.isConnected) return;
		box.remove();
		if (done) whenGone();
	};
	if (action) {
		const button = Object.assign(document.createElement("button"), { type: "button", className: "button", textContent: action.label });
		button.addEventListener("click", () => { leave(false); action.run(); });
		box.append(button);
	}
	box.addEventListener("pointerenter", hold);
	box.addEventListener("pointerleave", go);
	box.addEventListener("focusin", hold);
	box.addEventListener("focusout", () => setTimeout(go));
	place().append(box);
	announce(action ? `${text} ${action.label}` : text);
	go();
	return leave;
}
