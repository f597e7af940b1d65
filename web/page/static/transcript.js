/* The transcript: the sentence that plays is marked and kept in view; a sentence plays when it is chosen. */

moss.following = true;

moss.transcript = (element, watch) => {
  moss.sheet = element;
  const changed = () => {
    moss.rows = [...element.querySelectorAll(".line")];
    moss.starts = moss.rows.map((row) => Number(row.dataset.start));
    moss.current = -1;
    moss.listVoices();
    const first = moss.rows.find((row) => row.tabIndex === 0) ?? moss.rows[0];
    if (first) first.tabIndex = 0;
    moss.search();
    moss.follow(false);
    moss.rowsChanged();
    // Speakers, sentences or comments are other ones: so is the lane.
    moss.timeline.reload();
  };
  watch("value", changed);
  changed();
  moss.sheetChanged = changed;

  const playRow = (row) => {
    const audio = moss.audio();
    if (audio) moss.play(audio.dataset.recording, Number(row.dataset.start), Number(row.dataset.end));
    else if (moss.timeline.silent) moss.timeline.go(Number(row.dataset.start) + 0.01);
  };
  element.addEventListener("click", (event) => {
    const row = event.target.closest(".line");
    // Marking words to copy them is no click.
    if (row && String(getSelection()) === "") playRow(row);
  });
  element.addEventListener("keydown", (event) => {
    const row = event.target.closest(".line");
    if (!row) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); playRow(row); return; }
    const shown = moss.rows.filter((one) => !one.hidden);
    const at = shown.indexOf(row);
    const next = { ArrowDown: shown[at + 1], ArrowUp: shown[at - 1], Home: shown[0], End: shown.at(-1) }[event.key];
    if (!next) return;
    event.preventDefault();
    row.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
};

/** The last row that begins at or before a time. */
moss.rowAt = (time) => {
  let [low, high] = [0, moss.starts.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (moss.starts[middle] <= time) low = middle + 1; else high = middle;
  }
  return low - 1;
};

/** Mark the sentence that plays; `jump` brings it into view even when the person scrolled away. */
moss.follow = (jump) => {
  // Where something is being typed, the rows stay where they are.
  if (moss.editing) jump = false;
  const audio = moss.audio();
  if (!moss.rows || (!audio && !moss.timeline.silent)) return;
  const time = moss.timeline.now();
  const at = time > 0 || audio?.paused === false ? moss.rowAt(time) : -1;
  if (at !== moss.current) {
    moss.rows[moss.current]?.classList.remove("current");
    moss.rows[moss.current]?.removeAttribute("aria-current");
    moss.current = at;
    moss.rows[at]?.classList.add("current");
    moss.rows[at]?.setAttribute("aria-current", "true");
    // Tab comes to where one is.
    if (moss.rows[at] && !moss.sheet?.contains(document.activeElement)) {
      for (const row of moss.sheet?.querySelectorAll(".line[tabindex='0']") ?? []) row.tabIndex = -1;
      moss.rows[at].tabIndex = 0;
    }
    if (moss.following || jump) moss.bring(moss.rows[at]);
  } else if (jump) moss.bring(moss.rows[at]);
};

moss.bring = (row) => {
  const pane = moss.sheet?.closest("#transcript");
  if (!row || row.hidden || !pane) return;
  const [box, view] = [row.getBoundingClientRect(), pane.getBoundingClientRect()];
  if (box.top >= view.top + 24 && box.bottom <= view.bottom - 24) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  pane.scrollBy({ top: box.top - view.top - view.height / 3, behavior: calm ? "auto" : "smooth" });
};

/* Find in transcript: hides what does not match and marks what does. */
moss.filter = (element) => {
  moss.finder = element;
  element.querySelector("[data-filter]").addEventListener("input", () => moss.search());
  element.querySelector("[data-only-voice]").addEventListener("change", () => moss.search());
};

moss.search = () => {
  const wanted = moss.finder?.querySelector("[data-filter]").value.trim().toLocaleLowerCase() ?? "";
  const voice = moss.finder?.querySelector("[data-only-voice]").value ?? "";
  const marks = [];
  let shown = 0;
  for (const row of moss.rows ?? []) {
    const text = row.querySelector(".text");
    const at = voice && moss.voiceOf(row) !== voice ? -1 : wanted ? text.textContent.toLocaleLowerCase().indexOf(wanted) : 0;
    row.hidden = at < 0;
    if (at < 0) continue;
    shown += 1;
    if (wanted && text.firstChild && at + wanted.length <= text.firstChild.length) {
      const range = new Range();
      range.setStart(text.firstChild, at);
      range.setEnd(text.firstChild, at + wanted.length);
      marks.push(range);
    }
  }
  if (window.CSS?.highlights) CSS.highlights.set("found", new Highlight(...marks));
  if (moss.finder) moss.finder.querySelector("output").textContent = wanted || voice ? `${shown} of ${moss.rows.length}` : "";
  moss.timeline.mark();
};

/* Speakers: rename, or merge by giving the name of another. */
moss.head = (element, trigger) => element.addEventListener("click", async (event) => {
  const again = event.target.closest("[data-again]");
  if (again) { await moss.hearAgain(again, trigger); return; }
  const chip = event.target.closest("[data-rename]");
  if (!chip) return;
  const old = chip.dataset.rename;
  const others = [...element.querySelectorAll("[data-rename]")].map((one) => one.dataset.rename).filter((one) => one !== old);
  const name = await moss.ask({ title: `Who is ${old}?`, label: "Name", value: old, choices: others, action: "Rename" });
  if (!name || name === old) return;
  const folded = (one) => one.normalize("NFKC").toLocaleLowerCase().trim();
  const other = others.find((one) => folded(one) === folded(name));
  if (other && !await moss.ask({
    title: `Merge ${old} and ${other}?`, action: "Merge",
    text: `There is a speaker “${other}” already. If they are the same person, all that ${old} says becomes ${other}’s; Undo takes it back.`,
  })) return;
  trigger("rename", { old, new: name, merge: Boolean(other), remember: await moss.mayRemember(element) });
});

/** Have a recording transcribed anew, once it was said what goes with that. */
moss.hearAgain = async (button, trigger) => {
  const { again: id, title } = button.dataset;
  // What is on its way counts, too.
  if (moss.editing) await moss.saveField();
  await moss.sent;
  const reply = await fetch(`edits/${id}/history`).catch(() => null);
  if (!reply?.ok) { moss.complain("Whether there are corrections could not be found out; try again."); return; }
  const losing = (await reply.json()).filter((one) => !one.undone_at).length;
  const lost = losing ? ` ${losing === 1 ? "1 correction is" : `${losing} corrections are`} lost for good.` : "";
  const heard = "imported" in button.dataset ? "What is heard replaces the imported transcript" : "All of it is transcribed anew";
  if (await moss.ask({
    title: "Hear this recording again?", action: losing ? "Drop corrections and hear again" : "Hear again", danger: Boolean(losing),
    text: `“${title}”: ${heard}, with the engine that is used now. Speakers are identified anew, without the names you gave.${lost} Comments and the title stay.`,
  })) trigger("again", { id, losing });
};
