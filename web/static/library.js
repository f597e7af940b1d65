/* The library: uploads with their progress, and the buttons of each card. */

moss.shelf = (element, trigger) => {
  moss.wire("shelf", trigger);
  element.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { open, remove, title, cancel, resume, dismiss } = button.dataset;
    if (open) { trigger("open", { id: open }); moss.show("recording"); }
    if (cancel) trigger("cancel", { id: cancel });
    if (resume) trigger("resume", { id: resume });
    if (dismiss) trigger("dismiss", { id: dismiss });
    if (remove && await moss.ask({
      title: "Remove this recording?",
      text: `“${title}”, its transcript, its audio copy and the conversations that quote it are deleted. Your original file is not touched.`,
      action: "Remove", danger: true,
    })) trigger("remove", { id: remove });
  });
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

moss.complain = (text) => moss.send("add", "complain", { text });

/** Send files one after the other, so that the line at the server keeps their order. */
moss.uploadAll = async (files) => {
  const speakers = document.querySelector("[data-speakers]");
  const number = speakers.value ? Number(speakers.value) : null;
  if (number !== null && !speakers.checkValidity()) { speakers.reportValidity(); return; }
  for (const file of files) {
    try {
      const path = await moss.upload(file);
      if (path) moss.send("add", "added", { file: path, title: file.name.replace(/\.[^.]+$/, ""), speakers: number });
    } catch (error) { moss.complain(error.message); }
  }
  speakers.value = "";
};

/** Send one file; resolves to its path at the server, or null when it was stopped. */
moss.upload = (file) => new Promise((resolve, reject) => {
  const place = document.querySelector("[data-upload]");
  const bar = document.createElement("span");
  const line = document.createElement("span");
  const stop = document.createElement("button");
  const request = new XMLHttpRequest();
  const form = new FormData();
  // Gradio's folder is named by what is in a file: two alike must not meet there (see uploads.py).
  const unique = [...crypto.getRandomValues(new Uint8Array(8))].map((one) => one.toString(16).padStart(2, "0")).join("");
  form.append("files", file, `${unique}-${file.name}`);
  bar.className = "meter";
  bar.append(document.createElement("i"));
  line.className = "card-meta";
  line.textContent = `Sending ${file.name}`;
  stop.type = "button"; stop.className = "btn"; stop.textContent = "Cancel";
  stop.addEventListener("click", () => request.abort());
  place.replaceChildren(bar, line, stop);
  place.hidden = false;
  const done = () => { place.hidden = true; place.replaceChildren(); };
  request.upload.addEventListener("progress", (event) => {
    const share = Math.round(100 * event.loaded / event.total);
    bar.firstChild.style.width = `${share}%`;
    line.textContent = `Sending ${file.name} · ${share} %`;
  });
  request.addEventListener("load", () => {
    done();
    if (request.status === 200) resolve(JSON.parse(request.responseText)[0]);
    else if (request.status === 413) reject(new Error(`“${file.name}” is larger than this page accepts; add it with the command line: moss-agent add.`));
    else reject(new Error(`“${file.name}” could not be sent (${request.status}); try again.`));
  });
  request.addEventListener("error", () => { done(); reject(new Error(`“${file.name}” could not be sent; is moss-agent still running?`)); });
  request.addEventListener("abort", () => { done(); resolve(null); });
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
