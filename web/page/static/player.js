/* Playing: one audio element; everything with a time seeks it. */

moss.audio = () => document.getElementById("player");

/** Play from a time; opens the recording first when another one is open. */
moss.play = (recording, start, end) => {
  const audio = moss.audio();
  moss.show("recording");
  if (document.querySelector(`[data-unplayable="${CSS.escape(recording)}"]`)) {
    // A transcript without its media: its sentence is shown.
    moss.bring(moss.rows?.[moss.rowAt(start)]);
    return;
  }
  if (!audio || audio.dataset.recording !== recording) {
    moss.pending = { recording, start, end };
    moss.send("shelf", "open", { id: recording });
    return;
  }
  moss.pending = null;
  moss.following = true;
  const go = () => {
    // The start of a sentence may lie a hair before its first sample.
    audio.currentTime = start + 0.01;
    audio.play().catch(() => {});
    moss.follow(true);
  };
  if (audio.readyState >= 1) go();
  else { audio.addEventListener("loadedmetadata", go, { once: true }); audio.load(); }
};

moss.speeds = [1, 1.25, 1.5, 2, 0.75];

moss.player = (element, trigger, watch) => {
  const connect = () => {
    const audio = moss.audio();
    if (audio && !audio.moss) {
      audio.moss = true;
      for (const name of ["timeupdate", "seeked", "play"]) audio.addEventListener(name, () => moss.follow(name === "seeked"));
    }
    if (!moss.pending) return;
    const { recording, start, end } = moss.pending;
    // Another one was opened, or none: the wish to play is not kept for later.
    moss.pending = null;
    if (audio?.dataset.recording === recording) moss.play(recording, start, end);
  };
  watch("value", connect);
  connect();
  element.addEventListener("click", (event) => {
    const speed = event.target.closest("[data-speed]");
    const follow = event.target.closest("[data-follow]");
    const audio = moss.audio();
    if (speed && audio) {
      const next = moss.speeds[(moss.speeds.indexOf(audio.playbackRate) + 1) % moss.speeds.length];
      audio.playbackRate = next;
      speed.textContent = `${next}×`;
    }
    if (follow) {
      moss.following = follow.getAttribute("aria-pressed") !== "true";
      follow.setAttribute("aria-pressed", String(moss.following));
      if (moss.following) moss.follow(true);
    }
  });
};

/* Citations: buttons with data-play anywhere, and the #play/START/END/RECORDING links of answers and summaries. */
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-play]");
  if (button) {
    event.preventDefault();
    moss.play(button.dataset.recording, Number(button.dataset.play), Number(button.dataset.until));
    return;
  }
  const link = event.target.closest?.("a[href*='#play/']");
  const found = link && /#play\/([\d.]+)\/([\d.]+)\/([0-9a-f]+)$/.exec(link.getAttribute("href"));
  if (!found) return;
  event.preventDefault();
  event.stopPropagation();
  moss.play(found[3], Number(found[1]), Number(found[2]));
}, true);

/* Links that play are buttons to a screen reader, and answer to the space bar. */
new MutationObserver((changes) => {
  for (const change of changes) for (const node of change.addedNodes) {
    if (node.nodeType !== Node.ELEMENT_NODE) continue;
    const links = node.matches("a[href*='#play/']") ? [node] : node.querySelectorAll("a[href*='#play/']");
    for (const link of links) {
      link.removeAttribute("target");
      link.setAttribute("role", "button");
      link.setAttribute("aria-label", `Play from ${link.textContent}`);
      link.classList.add("cite");
    }
  }
}).observe(document.documentElement, { childList: true, subtree: true });

/* Keys, where no text is being typed: space plays and pauses, left and right skip five seconds, / asks. */
document.addEventListener("keydown", (event) => {
  const cite = event.target.closest?.("a.cite");
  if (cite && event.key === " ") { event.preventDefault(); cite.click(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.target.closest?.("input, textarea, select, button, a, audio, summary, dialog, [role=button], [role=radio], [role=tab]")) return;
  const audio = moss.audio();
  if (event.key === "/") { event.preventDefault(); moss.show("chat"); document.querySelector("#question textarea")?.focus(); }
  if (!audio) return;
  if (event.key === " ") { event.preventDefault(); if (audio.paused) audio.play(); else audio.pause(); }
  if (event.key === "ArrowLeft") audio.currentTime -= 5;
  if (event.key === "ArrowRight") audio.currentTime += 5;
});
