/* Recording with the microphone: compressed as it is recorded, so that an hour stays small, then added like a file. */

moss.record = async () => {
  if (moss.recorder) return;
  if (!navigator.mediaDevices?.getUserMedia) {
    moss.complain("The browser gives a page the microphone only on http://127.0.0.1 or over https.");
    return;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch {
    moss.complain("The microphone cannot be used; allow it for this page in the browser, and check that one is connected.");
    return;
  }
  const kind = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus", "audio/mp4"].find((one) => MediaRecorder.isTypeSupported(one));
  const recorder = new MediaRecorder(stream, kind ? { mimeType: kind } : {});
  moss.recorder = recorder;
  const pieces = [];
  let keep = false;
  recorder.addEventListener("dataavailable", (event) => { if (event.data.size) pieces.push(event.data); });
  recorder.addEventListener("stop", () => {
    stream.getTracks().forEach((track) => track.stop());
    moss.recorder = null;
    panel.done();
    if (!keep) return;
    const ending = { "audio/ogg": "ogg", "audio/mp4": "m4a" }[recorder.mimeType.split(";")[0]] ?? "webm";
    const at = new Date();
    const stamp = `${at.toLocaleDateString("en-CA")} ${at.toTimeString().slice(0, 5).replace(":", ".")}`;
    moss.uploadAll([new File(pieces, `Recording ${stamp}.${ending}`, { type: recorder.mimeType })]);
  });
  const panel = moss.recordingPanel((wanted) => { keep = wanted; recorder.stop(); });
  recorder.start(1000);
};

/** The line with the running time, Stop and Discard; `finish(keep)` is called once. */
moss.recordingPanel = (finish) => {
  const place = document.querySelector("[data-upload]");
  const began = Date.now();
  const line = Object.assign(document.createElement("span"), { className: "card-meta live", textContent: "Recording 0:00" });
  const button = (text, look, keep) => {
    const made = Object.assign(document.createElement("button"), { type: "button", className: look, textContent: text });
    made.addEventListener("click", () => finish(keep), { once: true });
    return made;
  };
  const stop = button("Stop and add", "primary", true);
  place.replaceChildren(line, stop, button("Discard", "btn", false));
  place.hidden = false;
  stop.focus();
  const clock = setInterval(() => { line.textContent = `Recording ${moss.clock((Date.now() - began) / 1000)}`; }, 500);
  return { done: () => { clearInterval(clock); place.hidden = true; place.replaceChildren(); } };
};
