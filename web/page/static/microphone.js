/* Recording with the microphone: compressed as it is recorded, so that an hour stays small, then added like a file.
   What was recorded is kept until it was sent or the person discards it. */

/** Recordings that are being made or were not sent yet; the browser asks before it leaves the page. */
moss.unsent = new Set();
window.addEventListener("beforeunload", (event) => { if (moss.unsent.size) event.preventDefault(); });

moss.record = async () => {
  if (moss.recorder) return;
  const speakers = moss.speakers();
  if (speakers === undefined) return;
  if (!navigator.mediaDevices?.getUserMedia) {
    moss.complain("The browser gives a page the microphone only on http://127.0.0.1 or over https.");
    return;
  }
  moss.recorder = "asking";
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch {
    moss.recorder = null;
    moss.complain("The microphone cannot be used; allow it for this page in the browser, and check that one is connected.");
    return;
  }
  const kind = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus", "audio/mp4"].find((one) => MediaRecorder.isTypeSupported(one));
  const recorder = new MediaRecorder(stream, kind ? { mimeType: kind } : {});
  moss.recorder = recorder;
  moss.unsent.add(recorder);
  const pieces = [];
  // It also ends by itself, when the microphone is unplugged; only Discard throws away.
  let keep = true;
  recorder.addEventListener("dataavailable", (event) => { if (event.data.size) pieces.push(event.data); });
  recorder.addEventListener("stop", () => {
    stream.getTracks().forEach((track) => track.stop());
    moss.recorder = null;
    panel.done();
    if (keep && pieces.length) moss.sendRecording(moss.recordingFile(pieces, recorder.mimeType), speakers);
    moss.unsent.delete(recorder);
  });
  const panel = moss.recordingPanel((wanted) => { keep = wanted; if (recorder.state !== "inactive") recorder.stop(); });
  document.querySelector("[data-speakers]").value = "";
  recorder.start(1000);
};

/** The pieces as one file, named by the time. */
moss.recordingFile = (pieces, type) => {
  const ending = { "audio/ogg": "ogg", "audio/mp4": "m4a" }[type.split(";")[0]] ?? "webm";
  const at = new Date();
  const stamp = `${at.toLocaleDateString("en-CA")} ${at.toTimeString().slice(0, 5).replace(":", ".")}`;
  return new File(pieces, `Recording ${stamp}.${ending}`, { type });
};

/** Send a recording; when that fails or is cancelled, offer it again, as a file, or to be discarded. */
moss.sendRecording = async (file, speakers) => {
  moss.unsent.add(file);
  let trouble = `“${file.name}” was not sent.`;
  try {
    if (await moss.addFile(file, speakers)) { moss.unsent.delete(file); return; }
  } catch (error) { trouble = error.message; }
  const line = Object.assign(document.createElement("span"), { className: "card-meta bad", textContent: trouble });
  const link = Object.assign(document.createElement("a"), { className: "btn", download: file.name, textContent: "Download" });
  link.href = URL.createObjectURL(file);
  const end = () => { shown.remove(); URL.revokeObjectURL(link.href); };
  const again = moss.button("Try again", "primary", () => { end(); moss.sendRecording(file, speakers); });
  const discard = moss.button("Discard", "btn", () => { end(); moss.unsent.delete(file); });
  const shown = moss.uploadLine(line, again, link, discard);
  line.setAttribute("role", "alert");
};

/** The line with the running time, Stop and Discard; `finish(keep)` is called at one of them. */
moss.recordingPanel = (finish) => {
  const began = Date.now();
  const line = Object.assign(document.createElement("span"), { className: "card-meta live", textContent: "Recording 0:00" });
  const stop = moss.button("Stop and add", "primary", () => finish(true));
  const shown = moss.uploadLine(line, stop, moss.button("Discard", "btn", () => finish(false)));
  stop.focus();
  const clock = setInterval(() => { line.textContent = `Recording ${moss.clock((Date.now() - began) / 1000)}`; }, 500);
  return { done: () => { clearInterval(clock); shown.remove(); } };
};
