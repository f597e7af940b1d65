/* Keys for playing, wherever no text is being typed, and the sheet that lists them. */

moss.keys = [
  ["Space, K", "Play or pause"],
  ["← →", "Back or forward 5 seconds"],
  ["J L", "Back or forward 15 seconds"],
  ["↑ ↓", "Sentence before or after"],
  ["R, F2", "Go back and play slower, until you are here again; F2 also while you type"],
  ["< >", "Slower or faster"],
  ["E", "Correct the sentence"],
  ["Ctrl+Z", "Undo a correction"],
  ["C", "Comment at this moment"],
  ["F", "Find in the transcript"],
  ["/", "Ask a question"],
  ["?", "These keys"],
];

/** What does nothing where a recording may only be read. */
moss.keysThatChange = ["E", "Ctrl+Z", "C"];

moss.keysOff = () => moss.stored("moss-keys") === "off";

/** Where letters are written: no key of ours means anything there. */
moss.isTyping = (target) => Boolean(
  target.closest?.("textarea, select, dialog, [contenteditable=''], [contenteditable=true], input:not([type=range], [type=checkbox], [type=radio], [type=button], [type=file])"),
);

/** Go to the sentence before or after the one that is played; what is filtered out is passed over. */
moss.stepSentence = (step) => {
  if (!moss.rows?.length) return;
  const shown = moss.rows.filter((row) => !row.hidden);
  // A moment into a sentence, "before" means its own beginning, as on any player.
  const now = moss.timeline.now() - (step < 0 ? 1 : -0.02);
  const next = step > 0
    ? shown.find((row) => Number(row.dataset.start) > now)
    : shown.filter((row) => Number(row.dataset.start) < now).at(-1);
  if (next) { moss.timeline.go(Number(next.dataset.start) + 0.01); moss.bring(next); }
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || moss.isTyping(event.target)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "?") { event.preventDefault(); moss.showKeys(); return; }
  if (moss.keysOff()) return;
  // What has the focus comes first: buttons take the space bar, choices and sliders the arrows.
  if (key === " " && event.target.closest?.("button, a, summary, audio, input, [role=tab], [role=radio], [role=button]:not(.current)")) return;
  if (key.startsWith("Arrow") && event.target.closest?.("audio, input, [role=tab], [role=radio], [role=slider]")) return;
  const audio = moss.audio();
  const run = {
    "/": () => { moss.show("chat"); document.querySelector("#question textarea")?.focus(); },
    f: () => { moss.show("recording"); document.querySelector("#tabs [role=tab]")?.click(); moss.finder?.querySelector("[data-filter]").focus(); },
    ...((audio || moss.timeline.silent) && {
      ArrowUp: () => moss.stepSentence(-1),
      ArrowDown: () => moss.stepSentence(1),
      c: () => moss.comment?.(moss.timeline.now()),
    }),
    ...(audio && {
      " ": moss.toggle,
      k: moss.toggle,
      ArrowLeft: () => moss.seek(audio.currentTime - 5),
      ArrowRight: () => moss.seek(audio.currentTime + 5),
      j: () => moss.seek(audio.currentTime - 15),
      l: () => moss.seek(audio.currentTime + 15),
      r: moss.rewindSlowly,
      "<": () => moss.stepSpeed(-1),
      ">": () => moss.stepSpeed(1),
    }),
  }[key];
  if (!run) return;
  event.preventDefault();
  run();
});

/** The sheet of keys; single keys can be switched off there, for who speaks to the computer. */
moss.showKeys = () => {
  if (document.querySelector("dialog[open]")) return;
  const make = (tag, props, ...children) => {
    const node = Object.assign(document.createElement(tag), props);
    node.append(...children);
    return node;
  };
  const list = make("dl", { className: "keys" });
  for (const [keys, what] of moss.keys) {
    if (moss.isFixed() && moss.keysThatChange.includes(keys)) continue;
    const term = make("dt", {});
    for (const key of keys.split(/,? /)) term.append(make("kbd", { textContent: key }));
    list.append(make("div", {}, term, make("dd", { textContent: what })));
  }
  const use = make("input", { type: "checkbox", checked: !moss.keysOff() });
  use.addEventListener("change", () => moss.stored("moss-keys", use.checked ? "on" : "off"));
  const close = make("button", { type: "submit", className: "btn", textContent: "Close" });
  const form = make("form", { method: "dialog" }, make("h2", { textContent: "Keys" }), list,
    make("label", { className: "field check" }, use, "Use these keys"), make("div", { className: "dialog-actions" }, close));
  const dialog = make("dialog", { className: "dialog" }, form);
  dialog.setAttribute("aria-label", "Keys");
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  close.focus();
};
document.addEventListener("click", (event) => { if (event.target.closest?.("[data-help]")) moss.showKeys(); });
