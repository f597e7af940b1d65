/* The library: uploads with their progress, and the buttons of each card. */

moss.shelf = (element, trigger) => {
  if (!moss.parts.shelf) moss.watchServer(element);
  moss.wire("shelf", trigger);
  element.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { open, remove, title, cancel, resume, dismiss, again } = button.dataset;
    if (open) { moss.departed(); trigger("open", { id: open }); moss.show("recording"); }
    if (cancel) trigger("cancel", { id: cancel });
    if (resume) trigger("resume", { id: resume });
    if (dismiss) trigger("dismiss", { id: dismiss });
    if (again) trigger("again", { id: again, losing: 0 });
    if (remove && await moss.ask({
      title: "Remove this recording?",
      text: `“${title}”, its transcript with all corrections, its audio copy and the conversations that quote it are deleted. Your original file is not touched.`,
      action: "Remove", danger: true,
    })) trigger("remove", { id: remove });
  });
};

/** Ask every second whether there is anything to draw anew; a page that nobody looks at asks when it is seen. */
moss.watchServer = (shelf) => {
  const began = performance.now();
  let last = null;
  let asking = false;
  const look = async () => {
    // Before the page is drawn for the first time, what is asked for would be drawn over it; but that may have failed.
    const isDrawn = shelf.textContent.trim() || performance.now() - began > 30_000;
    if (asking || document.hidden || !isDrawn) return;
    asking = true;
    const shown = document.querySelector("#revision [data-recording]")?.dataset.recording ?? "";
    let state = "away";
    try {
      const reply = await fetch(`changes?recording=${encodeURIComponent(shown)}`, { redirect: "manual" });
      state = reply.ok ? await reply.text() : `status ${reply.status}`;
    } catch { /* The server is away: what is drawn then says so. */ }
    asking = false;
    if (state === last) return;
    last = state;
    moss.send("shelf", "changed", {});
  };
  setInterval(look, 1000);
  document.addEventListener("visibilitychange", look);
};

moss.adding = (element, trigger) => {
  const input = element.querySelector("input[type=file]");
  moss.wire("add", trigger);
  element.addEventListener("click", (event) => {
    if (event.target.closest("[data-choose]")) input.click();
    if (event.target.closest("[data-record]")) moss.record();
  });
  input.addEventListener("change", () => { moss.uploadAll([...input.files]); input.value = ""; });
  moss.takeDrops();
};

/** Words that must be spelled right: kept on the server when they are saved. */
moss.glossary = (element, trigger) => element.addEventListener("click", (event) => {
  if (event.target.closest("[data-spell]")) trigger("spell", { text: element.querySelector("[data-glossary]").value });
});

moss.complain = (text) => moss.send("add", "complain", { text });

/** The number of speakers: null for automatic, undefined (and the browser's own notice) when it is not valid. */
moss.speakers = () => moss.number("[data-speakers]");

/** What is in a field for a number; see `moss.speakers`. */
moss.number = (which) => {
  const field = document.querySelector(which);
  if (!field.checkValidity()) { field.reportValidity(); return undefined; }
  return field.value ? Number(field.value) : null;
};

/** Send files one after the other, so that the line at the server keeps their order. */
moss.uploadAll = async (files) => {
  const speakers = moss.speakers();
  const track = moss.number("[data-track]");
  if (speakers === undefined || track === undefined) return;
  for (const which of ["[data-speakers]", "[data-track]"]) document.querySelector(which).value = "";
  for (const file of files) {
    try {
      await moss.addFile(file, speakers, track);
    } catch (error) { moss.complain(error.message); }
  }
};

/** Send one file and put it in line; resolves to whether it was sent, not stopped by the person. */
moss.addFile = async (file, speakers, track = null) => {
  const path = await moss.upload(file);
  const title = file.name.replace(/\.[^.]+$/, "");
  if (path) moss.send("add", "added", { file: path, title, speakers, track });
  return Boolean(path);
};

/** A line of its own below the buttons; `remove` takes it away. */
moss.uploadLine = (...parts) => {
  const place = document.querySelector("[data-upload]");
  const row = document.createElement("div");
  row.className = "upload-row";
  row.append(...parts);
  place.append(row);
  place.hidden = false;
  const remove = () => { row.remove(); place.hidden = !place.children.length; };
  return { row, remove };
};

moss.button = (text, look, run) => {
  const made = Object.assign(document.createElement("button"), { type: "button", className: look, textContent: text });
  made.addEventListener("click", run);
  return made;
};

/** Send one file; resolves to its path at the server, or null when it was stopped. */
moss.upload = (file) => new Promise((resolve, reject) => {
  const request = new XMLHttpRequest();
  const form = new FormData();
  // Gradio's folder is named by what is in a file: two alike must not meet there (see uploads.py).
  const unique = [...crypto.getRandomValues(new Uint8Array(8))].map((one) => one.toString(16).padStart(2, "0")).join("");
  form.append("files", file, `${unique}-${file.name}`);
  const bar = Object.assign(document.createElement("span"), { className: "meter" });
  const line = Object.assign(document.createElement("span"), { className: "card-meta", textContent: `Sending ${file.name}` });
  bar.append(document.createElement("i"));
  const shown = moss.uploadLine(bar, line, moss.button("Cancel", "btn", () => request.abort()));
  const fail = (text) => { shown.remove(); reject(new Error(text)); };
  request.upload.addEventListener("progress", (event) => {
    const share = Math.round(100 * event.loaded / event.total);
    bar.firstChild.style.width = `${share}%`;
    line.textContent = `Sending ${file.name} · ${share} %`;
  });
  request.addEventListener("load", () => {
    if (request.status === 200) { shown.remove(); resolve(JSON.parse(request.responseText)[0]); }
    else if (request.status === 413) fail(`“${file.name}” is larger than this page accepts; add it with the command line: moss-agent add.`);
    else fail(`“${file.name}” could not be sent (${request.status}); try again.`);
  });
  request.addEventListener("error", () => fail(`“${file.name}” could not be sent; is moss-agent still running?`));
  request.addEventListener("abort", () => { shown.remove(); resolve(null); });
  request.open("POST", "gradio_api/upload");
  request.send(form);
});

/** Files dropped anywhere on the page are added. */
moss.takeDrops = () => {
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0;
  const mark = () => document.documentElement.classList.toggle("dropping", depth > 0);
  window.addEventListener("dragenter", (event) => { if (carriesFiles(event)) { depth += 1; mark(); } });
  window.addEventListener("dragleave", (event) => { if (carriesFiles(event)) { depth = Math.max(0, depth - 1); mark(); } });
  window.addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
  window.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0; mark();
    moss.uploadAll([...event.dataTransfer.files]);
  });
};

/** Give an imported transcript its media file; the queue shows how far the two are compared. */
moss.attach = (recording, file) => {
  const request = new XMLHttpRequest();
  const form = new FormData();
  form.append("file", file, file.name);
  const bar = Object.assign(document.createElement("span"), { className: "meter" });
  const line = Object.assign(document.createElement("span"), { className: "card-meta", textContent: `Sending ${file.name}` });
  bar.append(document.createElement("i"));
  const shown = moss.uploadLine(bar, line, moss.button("Cancel", "btn", () => request.abort()));
  request.upload.addEventListener("progress", (event) => {
    const share = Math.round(100 * event.loaded / event.total);
    bar.firstChild.style.width = `${share}%`;
    line.textContent = `Sending ${file.name} · ${share} %`;
  });
  request.addEventListener("load", () => {
    shown.remove();
    if (request.status === 202) { moss.toast("It can be played once it was compared with the transcript"); return; }
    let told = null;
    try { told = JSON.parse(request.responseText).error.message; } catch { /* no sentence of ours */ }
    moss.complain(told ?? `“${file.name}” could not be added (${request.status}); try again.`);
  });
  request.addEventListener("error", () => { shown.remove(); moss.complain(`“${file.name}” could not be sent; is moss-agent still running?`); });
  request.addEventListener("abort", shown.remove);
  request.open("POST", `api/v1/recordings/${recording}/media`);
  request.send(form);
};

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-attach]");
  if (!button) return;
  const input = Object.assign(document.createElement("input"), { type: "file", accept: "audio/*,video/*,.mkv,.opus,.flac,.m4a" });
  input.addEventListener("change", () => { if (input.files[0]) moss.attach(button.dataset.attach, input.files[0]); });
  input.click();
});
