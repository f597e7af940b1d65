/* Talk time, reading one speaker, and the search over the whole library. */

/** Who says a sentence, as it is shown above it. */
moss.voiceOf = (row) => row.closest(".turn")?.querySelector(".who")?.textContent ?? "";

/** The choice of speakers follows the transcript; the one that is chosen stays while it is there. */
moss.listVoices = () => {
  const choice = moss.finder?.querySelector("[data-only-voice]");
  if (!choice) return;
  const names = [...new Set([...document.querySelectorAll("#transcript .who")].map((one) => one.textContent))];
  const before = choice.value;
  choice.replaceChildren(...["", ...names].map((name) => Object.assign(document.createElement("option"), { value: name, textContent: name || "Everyone" })));
  choice.value = names.includes(before) ? before : "";
  choice.hidden = names.length < 2;
};

/** Read only what one speaker says. */
moss.readOnly = (name) => {
  const choice = moss.finder?.querySelector("[data-only-voice]");
  if (!choice) return;
  moss.openTab("Transcript");
  choice.value = name;
  moss.search();
  choice.focus();
};

moss.openTab = (name) => [...document.querySelectorAll("#tabs [role=tab]")].find((tab) => tab.textContent.trim() === name)?.click();

moss.talk = (element) => element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-only]");
  if (button) moss.readOnly(button.dataset.only);
});

/** Search while it is typed; Escape, or nothing, shows the library again. */
moss.librarySearch = (element, trigger) => {
  const field = element.querySelector("[data-library-search]");
  let waiting = null;
  let last = "";
  const search = () => {
    clearTimeout(waiting);
    const text = field.value.trim();
    if (text === last) return;
    last = text;
    document.documentElement.classList.toggle("searching", Boolean(text));
    trigger("search", { text });
  };
  field.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, field.value.trim() ? 350 : 0); });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); search(); }
    if (event.key === "Escape" && field.value) { event.preventDefault(); field.value = ""; search(); }
    if (event.key === "ArrowDown") document.querySelector("#found button")?.focus();
  });
};

moss.found = (element, watch) => {
  watch("value", () => moss.timeline.mark());
  element.addEventListener("click", (event) => {
    const button = event.target.closest("[data-open]");
    if (!button) return;
    moss.departed();
    moss.send("shelf", "open", { id: button.dataset.open });
    moss.show("recording");
  });
  element.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = [...element.querySelectorAll("button")];
    const next = buttons[buttons.indexOf(event.target) + step];
    event.preventDefault();
    (next ?? (step < 0 ? document.querySelector("[data-library-search]") : event.target)).focus();
  });
};

/** The summary by an instruction: Write again, and Stop while it is being written. */
moss.instruct = (element, trigger) => {
  const field = element.querySelector("[data-instruction]");
  const stop = element.querySelector("[data-unwrite]");
  const go = element.querySelector("[type=submit]");
  moss.writing = (busy) => { stop.hidden = !busy; go.hidden = busy; };
  element.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim()) moss.writing(true);
    trigger("instruct", { text: field.value.trim() });
  });
  stop.addEventListener("click", () => trigger("unwrite", {}));
};
/** What was wanted of one recording is not wanted of the next. */
moss.forgetInstruction = () => {
  const field = document.querySelector("[data-instruction]");
  if (field) field.value = "";
};
moss.ready(() => {
  // The text of the summary changes when it begins to be written, and again when it is there.
  new MutationObserver(() => {
    const text = document.querySelector("#summary")?.textContent.trim() ?? "";
    if (text && !text.startsWith("Writing the summary")) moss.writing?.(false);
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
});
