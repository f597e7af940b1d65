/* Correcting the transcript in place. What is typed is saved when the field is left; of the rows only those are
   exchanged that differ, so that place, playback and what is being typed stay. */

moss.corrected = { recording: "", revision: 0, canUndo: false, canRedo: false, ids: new Set() };
/** The field that is open: `{ id, version, original, row, field, box, wasFollowing }`. */
moss.editing = null;

moss.edits = (element, trigger) => {
  moss.wire("edits", trigger);
  moss.editBar = element;
  element.addEventListener("click", (event) => {
    if (event.target.closest("[data-undo]")) moss.turnBack("undo");
    if (event.target.closest("[data-redo]")) moss.turnBack("redo");
    if (event.target.closest("[data-history]")) moss.showHistory(null);
  });
};

/** The server says how often the open recording was corrected, through whatever door. */
moss.revised = (element, watch) => {
  const look = () => {
    const mark = element.querySelector("[data-revision]");
    const { recording, revision } = moss.corrected;
    if (mark?.dataset.recording === recording && Number(mark.dataset.revision) > revision) moss.fetchEdits();
  };
  watch("value", look);
};

/** The rows are others than before: Gradio drew the transcript anew. */
moss.rowsChanged = () => {
  const rows = moss.sheet.querySelector(".rows");
  const recording = rows?.dataset.recording ?? "";
  if (recording !== moss.corrected.recording) {
    moss.closeField();
    moss.corrected = { recording, revision: Number(rows?.dataset.revision ?? 0), canUndo: false, canRedo: false, ids: new Set() };
    moss.anchor = null;
    moss.sayEdit("");
    if (recording) moss.fetchEdits();
  } else if (rows) {
    moss.markCorrected();
    if (moss.editing || !moss.following || moss.audio()?.paused !== false) moss.restore();
    if (moss.editing && !moss.editing.box.isConnected) moss.reopen();
  }
  moss.showTools(null);
};

moss.fetchEdits = async () => {
  const { recording, revision } = moss.corrected;
  const reply = await fetch(`edits/${recording}?since=${revision}`).catch(() => null);
  if (reply?.ok) moss.take(recording, await reply.json());
};

/** Ask the server to correct something; resolves to the sentence that says why not, or to an empty one. */
moss.sendEdit = (edit, last = false) => { moss.sent = moss.sendNow(edit, last); return moss.sent; };
moss.sendNow = async (edit, last) => {
  const { recording } = moss.corrected;
  let reply;
  try {
    reply = await fetch(`edits/${recording}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(edit), keepalive: last,
    });
  } catch { return "This could not be saved; is moss-agent still running? What you typed is still here."; }
  const answer = await reply.json().catch(() => ({}));
  if (answer.revision !== undefined) moss.take(recording, answer);
  if (reply.ok) return answer.error ?? "";
  return `This could not be saved (${reply.status}); what you typed is still here.`;
};

/** Take what the server answered: the transcript as it is now, and what can be undone. */
moss.take = (recording, answer) => {
  if (recording !== moss.corrected.recording || answer.revision < moss.corrected.revision) return;
  // Answers and the summary quote what was said.
  if (answer.revision > moss.corrected.revision) {
    moss.send("edits", "corrected", { summary: Boolean(document.querySelector("#summary")?.offsetParent) });
  }
  Object.assign(moss.corrected, {
    revision: answer.revision, canUndo: answer.can_undo, canRedo: answer.can_redo, ids: new Set(answer.corrected),
  });
  if (answer.html) moss.exchange(answer.html);
  moss.markCorrected();
  for (const [which, can] of [["[data-undo]", answer.can_undo], ["[data-redo]", answer.can_redo]]) {
    const button = moss.editBar?.querySelector(which);
    if (button) button.disabled = !can;
  }
};

moss.markCorrected = () => {
  for (const row of moss.rows ?? []) row.classList.toggle("corrected", moss.corrected.ids.has(Number(row.dataset.id)));
};

/** What a turn says, whatever is marked in it. */
moss.signature = (turn) => {
  const parts = turn.matches(".line, .remark") ? [turn] : [...turn.querySelectorAll(".line, .who, .remark")];
  const looks = [...turn.classList].filter((one) => !["current", "corrected"].includes(one));
  const said = parts.map((part) => [
    part.dataset.id ?? part.querySelector("[data-recomment]")?.dataset.recomment,
    part.dataset.version, part.dataset.start, (part.querySelector(".text") ?? part).textContent,
  ].join(" "));
  return [...looks, ...said].join("\n");
};

/** Put rows that differ in the place of those that are there. */
moss.exchange = (html) => {
  const rows = moss.sheet.querySelector(".rows");
  const fresh = new DOMParser().parseFromString(html, "text/html").querySelector(".rows");
  if (!rows || !fresh) return;
  const [before, after] = [[...rows.children], [...fresh.children]];
  const [was, is] = [before.map(moss.signature), after.map(moss.signature)];
  let head = 0;
  while (head < was.length && head < is.length && was[head] === is[head]) head += 1;
  let tail = 0;
  while (tail < was.length - head && tail < is.length - head && was[was.length - 1 - tail] === is[is.length - 1 - tail]) tail += 1;
  rows.dataset.revision = fresh.dataset.revision;
  if (head + tail === was.length && head + tail === is.length) return;
  moss.remember();
  const focused = document.activeElement?.closest?.(".line")?.dataset.id;
  const hadFocus = moss.sheet.contains(document.activeElement);
  const place = before[before.length - tail] ?? null;
  before.slice(head, before.length - tail).forEach((turn) => turn.remove());
  for (const turn of after.slice(head, after.length - tail)) rows.insertBefore(turn, place);
  // Where one reads, or edits, is not where the player stands.
  const following = moss.following;
  moss.following = false;
  moss.sheetChanged();
  moss.following = following;
  if (hadFocus && focused && !moss.editing) moss.focusRow(focused);
};

/** Which row stands where in the pane: the one that is edited, or the first that is seen. */
moss.remember = () => {
  const pane = moss.sheet.closest("#transcript");
  const top = pane.getBoundingClientRect().top;
  const row = moss.editing?.row ?? moss.rows.find((one) => one.getBoundingClientRect().bottom > top + 1);
  moss.anchor = row?.dataset.id ? { id: row.dataset.id, offset: row.getBoundingClientRect().top - top } : null;
};

moss.restore = () => {
  if (!moss.anchor) return;
  const pane = moss.sheet.closest("#transcript");
  const row = moss.rowOf(moss.anchor.id);
  if (row) pane.scrollTop += row.getBoundingClientRect().top - pane.getBoundingClientRect().top - moss.anchor.offset;
};
moss.ready(() => document.addEventListener("scroll", (event) => {
  if (event.target.id !== "transcript" || moss.settling) return;
  moss.settling = requestAnimationFrame(() => { moss.settling = 0; if (moss.rows?.length && moss.sheet.isConnected) moss.remember(); });
}, { capture: true, passive: true }));

moss.rowOf = (id) => moss.sheet.querySelector(`.line[data-id="${Number(id)}"]`);
moss.focusRow = (id) => {
  const row = moss.rowOf(id);
  if (!row) return;
  for (const one of moss.rows) one.tabIndex = -1;
  row.tabIndex = 0;
  row.focus({ preventScroll: true });
};
moss.isSentence = (row) => Boolean(row?.dataset.id && row.querySelector(".text.speech"));
moss.sayEdit = (text) => { const line = moss.editBar?.querySelector(".edit-status"); if (line) line.textContent = text; };

/* The field. */

/** Whether whoever looks may read the open recording, and not change it. */
moss.isFixed = () => Boolean(moss.sheet?.querySelector(".rows[data-fixed]"));

moss.edit = (row) => {
  if (moss.isFixed() || !moss.isSentence(row) || moss.editing?.id === row.dataset.id) return;
  if (moss.editing) moss.saveField();
  moss.openField(row, row.querySelector(".text").textContent);
};

moss.openField = (row, text, caret = null) => {
  const make = (tag, props, ...children) => {
    const node = Object.assign(document.createElement(tag), props);
    node.append(...children);
    return node;
  };
  const field = make("textarea", { value: text, rows: 1, maxLength: 2000, spellcheck: true });
  field.setAttribute("aria-label", `Sentence at ${row.querySelector("time").textContent}`);
  const told = make("p", { className: "told" });
  told.setAttribute("role", "alert");
  const tools = make("div", { className: "field-tools" },
    moss.button("Play", "btn", moss.playEdited), moss.button("Split here", "btn", moss.splitHere),
    moss.button("Merge with next", "btn", moss.mergeNext), moss.button("Speaker", "btn", () => moss.chooseSpeaker(moss.editing.row)),
    moss.button("History", "btn", () => moss.showHistory(moss.editing.id)),
    make("span", { className: "hint", textContent: "Enter saves, Esc cancels, Ctrl+Space plays, F2 goes back and slows down" }));
  const box = make("div", { className: "field-box" }, field, told, tools);
  row.classList.add("editing");
  row.removeAttribute("role");
  row.tabIndex = -1;
  row.append(box);
  moss.editing = {
    id: row.dataset.id, version: Number(row.dataset.version), original: row.querySelector(".text").textContent,
    row, field, box, wasFollowing: moss.editing?.wasFollowing ?? moss.following,
  };
  // The rows stay where they are while one types, also while it plays.
  moss.following = false;
  moss.showTools(null);
  const grow = () => { field.style.height = "auto"; field.style.height = `${field.scrollHeight}px`; };
  field.addEventListener("input", grow);
  grow();
  // Clicks and keys in the field are none of the row's or the page's.
  for (const kind of ["click", "dblclick", "keyup"]) box.addEventListener(kind, (event) => event.stopPropagation());
  box.addEventListener("keydown", moss.fieldKey);
  // Later, since a row that is drawn anew loses the focus too; see `moss.reopen`.
  box.addEventListener("focusout", () => setTimeout(() => {
    const left = moss.editing?.box === box && box.isConnected && !box.contains(document.activeElement);
    if (left && !document.querySelector("dialog[open]")) moss.saveField();
  }));
  field.focus({ preventScroll: true });
  const at = caret ?? text.length;
  field.setSelectionRange(at, at);
};

/** The row of the field was drawn anew: open it there again, with what was typed. */
moss.reopen = () => {
  const { id, field, original, wasFollowing, told } = moss.editing;
  const row = moss.rowOf(id);
  if (!row) {
    // It was merged into another one: what was typed must not be lost without a word.
    moss.editing = null;
    moss.following = wasFollowing;
    if (field.value !== original) moss.sayEdit(`The sentence that you were correcting is gone; you had typed: “${field.value}”`);
    return;
  }
  const now = row.querySelector(".text").textContent;
  const untouched = field.value === original;
  moss.openField(row, untouched ? now : field.value, field.selectionStart);
  moss.editing.wasFollowing = wasFollowing;
  if (told) moss.sayField(told);
  else if (!untouched && now !== original) moss.sayField(`This sentence was changed meanwhile to “${now}”. Enter puts yours in its place, Esc keeps it.`);
};

moss.sayField = (text) => {
  if (!moss.editing) return;
  moss.editing.told = text;
  moss.editing.box.querySelector(".told").textContent = text;
};

moss.closeField = (focus = false) => {
  const { row, box, id, wasFollowing } = moss.editing ?? {};
  if (!row) return;
  moss.editing = null;
  moss.following = wasFollowing;
  box.remove();
  row.classList.remove("editing");
  row.setAttribute("role", "button");
  if (focus) moss.focusRow(id);
};

moss.tidied = (text) => text.replace(/\s+/g, " ").trim();

/** Save what was typed and close the field; resolves to whether that went well. */
moss.saveField = async (focus = false) => {
  const open = moss.editing;
  if (!open || open.saving) return !open;
  if (moss.tidied(open.field.value) === moss.tidied(open.original)) { moss.closeField(focus); return true; }
  open.saving = true;
  const typed = open.field.value;
  open.told = "";
  // Closed first, so that the answer finds a row to exchange; whoever types on has another field by then.
  const edit = { action: "text", segments: [Number(open.id)], versions: { [open.id]: open.version }, text: typed };
  open.row.querySelector(".text").textContent = moss.tidied(typed);
  moss.closeField(focus);
  const refused = await moss.sendEdit(edit);
  if (!refused) { moss.sayEdit("Saved."); return true; }
  const row = moss.rowOf(open.id);
  if (row) {
    if (row.querySelector(".text").textContent === moss.tidied(typed)) row.querySelector(".text").textContent = open.original;
    if (moss.editing) await moss.saveField();
    moss.openField(row, typed);
    moss.sayField(refused);
  } else moss.sayEdit(`${refused} You had typed: “${typed}”`);
  return false;
};

moss.fieldKey = (event) => {
  event.stopPropagation();
  if (event.isComposing) return;
  const control = event.ctrlKey || event.metaKey;
  if (event.key === "F2") { event.preventDefault(); moss.rewindSlowly(); return; }
  if (event.key === "Escape") { event.preventDefault(); moss.closeField(true); return; }
  if (control && event.key === " ") { event.preventDefault(); moss.playEdited(); return; }
  if (event.target !== moss.editing?.field) return;
  if (event.key === "Enter") {
    event.preventDefault();
    if (control) moss.splitHere(); else if (!event.shiftKey) moss.saveField(true);
  }
  if (event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    const rows = moss.rows.filter((one) => moss.isSentence(one) && !one.hidden);
    const next = rows[rows.indexOf(moss.editing.row) + (event.key === "ArrowDown" ? 1 : -1)];
    if (next) { moss.edit(next); moss.bring(next); }
  }
};

/** Play the sentence that is edited, from its beginning; or pause. */
moss.playEdited = () => {
  const audio = moss.audio();
  const row = moss.editing?.row;
  if (!audio || !row) return;
  const [start, end, id] = [Number(row.dataset.start), Number(row.dataset.end), row.dataset.id];
  if (!audio.paused && audio.currentTime >= start && audio.currentTime < end) { audio.pause(); return; }
  audio.currentTime = start + 0.01;
  audio.play().catch(() => {});
  const stop = () => {
    const over = moss.editing?.id !== id || audio.currentTime > end + 1;
    if (over) audio.removeEventListener("timeupdate", stop);
    else if (audio.currentTime >= end) { audio.pause(); audio.removeEventListener("timeupdate", stop); }
  };
  audio.addEventListener("timeupdate", stop);
};

/** After what was typed is saved: the row as it is now, with its version. */
moss.saved = async () => {
  const { id } = moss.editing;
  return await moss.saveField() ? moss.rowOf(id) : null;
};

moss.splitHere = async () => {
  const { field, id } = moss.editing;
  const at = moss.tidied(field.value.slice(0, field.selectionStart)).length;
  const row = await moss.saved();
  if (row) await moss.change(row, { action: "split", at }, id);
};

moss.mergeNext = async () => {
  const { id } = moss.editing;
  const row = await moss.saved();
  const rows = moss.rows.filter(moss.isSentence);
  const next = rows[rows.indexOf(row) + 1];
  if (!row) return;
  if (!next) { moss.sayEdit("No sentence follows this one."); return; }
  await moss.change(row, { action: "merge" }, id, [row, next]);
};

moss.change = async (row, edit, id, rows = [row]) => {
  const segments = rows.map((one) => Number(one.dataset.id));
  const versions = Object.fromEntries(rows.map((one) => [one.dataset.id, Number(one.dataset.version)]));
  const refused = await moss.sendEdit({ ...edit, segments, versions });
  moss.sayEdit(refused || "Saved.");
  moss.focusRow(id);
  return !refused;
};

moss.turnBack = async (action) => {
  if (moss.editing) await moss.saveField();
  moss.sayEdit(await moss.sendEdit({ action }) || (action === "undo" ? "Undone." : "Done again."));
};

/* Who speaks: of one sentence, or of all that is said there in a row. */

moss.chooseSpeaker = async (row) => {
  const id = row.dataset.id;
  if (moss.editing && !await moss.saveField()) return;
  const turn = moss.rowOf(id)?.closest(".turn");
  if (!turn) return;
  const names = [...document.querySelectorAll("[data-rename]")].map((one) => one.dataset.rename);
  const who = turn.querySelector(".who")?.textContent ?? "";
  const paragraph = [...turn.querySelectorAll(".line")].filter(moss.isSentence);
  const chosen = await moss.askSpeaker(who, names, paragraph.length);
  const now = moss.rowOf(id);
  if (!chosen || !now) return;
  const rows = chosen.paragraph ? [...now.closest(".turn").querySelectorAll(".line")].filter(moss.isSentence) : [now];
  await moss.change(now, { action: "speaker", speaker: chosen.name }, id, rows);
};

moss.askSpeaker = (who, names, count) => new Promise((resolve) => {
  const make = (tag, props, ...children) => {
    const node = Object.assign(document.createElement(tag), props);
    node.append(...children);
    return node;
  };
  const input = make("input", { type: "text", value: who, maxLength: 80, required: true });
  input.setAttribute("list", "speaker-choices");
  const list = make("datalist", { id: "speaker-choices" }, ...names.map((name) => make("option", { value: name })));
  const scope = (value, text, checked) => make("label", { className: "choice" },
    make("input", { type: "radio", name: "scope", value, checked }), text);
  const stop = make("button", { type: "button", className: "btn", textContent: "Cancel" });
  const form = make("form", { method: "dialog" }, make("h2", { textContent: "Who says this?" }),
    make("label", { className: "field" }, "Name", input, list),
    make("fieldset", { className: "scope" }, make("legend", { textContent: "For" }),
      scope("one", "this sentence", true), ...(count > 1 ? [scope("all", `the whole paragraph (${count} sentences)`, false)] : [])),
    make("div", { className: "dialog-actions" }, stop, make("button", { type: "submit", value: "go", className: "primary", textContent: "Save" })));
  const dialog = make("dialog", { className: "dialog" }, form);
  dialog.setAttribute("aria-label", "Who says this?");
  stop.addEventListener("click", () => dialog.close(""));
  dialog.addEventListener("close", () => {
    const go = dialog.returnValue === "go" && input.value.trim();
    resolve(go ? { name: input.value.trim(), paragraph: form.elements.scope.value === "all" } : null);
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
  input.select();
});

/* What was corrected, of one sentence or of all. */

moss.showHistory = async (id) => {
  if (moss.editing && !await moss.saveField()) return;
  const reply = await fetch(`edits/${moss.corrected.recording}/history${id ? `?segment=${id}` : ""}`).catch(() => null);
  const entries = reply?.ok ? await reply.json() : [];
  const make = (tag, props, ...children) => {
    const node = Object.assign(document.createElement(tag), props);
    node.append(...children);
    return node;
  };
  const what = {
    text: "text", speaker: "speaker", split: "split", merge: "merged", rename: "speaker renamed", unite: "speakers merged",
  };
  const line = (state) => [state.speaker, state.text].filter(Boolean).join(": ");
  const different = (states) => [...new Set(states.map(line).filter(Boolean))].slice(0, 3);
  const items = entries.map((entry) => make("li", { className: entry.undone_at ? "undone" : "" },
    make("p", { className: "hint", textContent:
      `${new Date(entry.at).toLocaleString()} · ${entry.by || "unknown"} · ${what[entry.kind]}${entry.start === null ? "" : ` at ${moss.clock(entry.start)}`}${entry.undone_at ? " · undone" : ""}` }),
    ...different(entry.before).map((text) => make("del", { textContent: text })),
    ...different(entry.after).map((text) => make("ins", { textContent: text }))));
  const close = make("button", { type: "submit", className: "primary", textContent: "Close" });
  const form = make("form", { method: "dialog" }, make("h2", { textContent: id ? "History of this sentence" : "History" }),
    entries.length ? make("ul", { className: "history" }, ...items)
      : make("p", { textContent: reply?.ok ? "Nothing was corrected; this is what was heard." : "The history could not be read; is moss-agent still running?" }),
    make("div", { className: "dialog-actions" }, close));
  const dialog = make("dialog", { className: "dialog wide" }, form);
  dialog.setAttribute("aria-label", "History");
  dialog.addEventListener("close", () => { dialog.remove(); if (id) moss.focusRow(id); });
  document.body.append(dialog);
  dialog.showModal();
  close.focus();
};

/* Ways in: two clicks, the buttons beside a row, E on it. */

moss.showTools = (row) => {
  if (row && moss.isFixed()) row = null;
  if (row && !moss.tools) {
    moss.tools = document.createElement("div");
    moss.tools.className = "row-tools";
    moss.tools.append(moss.editBar.querySelector("template").content.cloneNode(true));
    moss.tools.addEventListener("click", (event) => {
      event.stopPropagation();
      if (event.target.closest("[data-edit-row]")) moss.edit(moss.toolsOf);
      if (event.target.closest("[data-speaker-row]")) moss.chooseSpeaker(moss.toolsOf);
    });
  }
  moss.toolsOf = row;
  if (!row) { moss.tools?.remove(); return; }
  moss.tools.style.top = `${row.offsetTop}px`;
  if (row.parentElement !== moss.tools.parentElement || row.nextElementSibling !== moss.tools) row.after(moss.tools);
};

moss.ready(() => {
  const row = (event) => {
    const found = event.target.closest?.("#transcript .line");
    return moss.isSentence(found) && !found.classList.contains("editing") ? found : null;
  };
  for (const kind of ["mouseover", "focusin"]) {
    document.addEventListener(kind, (event) => {
      const found = row(event);
      if (found && found !== moss.toolsOf) moss.showTools(found);
    });
  }
  // The first of two clicks plays, which may bring the row elsewhere: the one that it met is meant.
  let first = null;
  document.addEventListener("click", (event) => { if (event.detail === 1) first = row(event); }, true);
  document.addEventListener("dblclick", (event) => {
    const found = first?.isConnected ? first : null;
    if (!found || !event.target.closest?.("#transcript") || event.target.closest(".field-box, button")) return;
    getSelection().removeAllRanges();
    moss.edit(found);
  });
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.target.closest?.("input, textarea, select, dialog")) return;
    if (event.key === "F2") { event.preventDefault(); moss.rewindSlowly(); return; }
    const control = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (control && !event.altKey && (key === "z" || key === "y")) {
      const action = key === "y" || event.shiftKey ? "redo" : "undo";
      if (!moss.corrected[action === "undo" ? "canUndo" : "canRedo"]) return;
      event.preventDefault();
      moss.turnBack(action);
    }
    if (control || event.altKey || key !== "e" || moss.keysOff?.()) return;
    const found = row(event) ?? moss.rows?.[moss.current];
    if (moss.isSentence(found)) { event.preventDefault(); moss.edit(found); }
  });
  // Whoever leaves the page leaves the field.
  addEventListener("pagehide", () => {
    const open = moss.editing;
    if (!open || moss.tidied(open.field.value) === moss.tidied(open.original)) return;
    moss.sendEdit({ action: "text", segments: [Number(open.id)], versions: { [open.id]: open.version }, text: open.field.value }, true);
  });
});
