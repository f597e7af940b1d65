/* Playing: one audio element; everything with a time seeks it. */

moss.audio = () => document.getElementById("player");

/** Stand at a second. Until anything is known of the file, browsers keep that second, give it as the current time, and
    begin there: so a comment or a link is made where one went to, also before the audio has arrived. */
moss.stand = (audio, time) => {
  if (audio.readyState < 1) audio.load();
  audio.currentTime = time;
  moss.follow(true);
  moss.showState();
};

/** Play from a time; opens the recording first when another one is open. */
moss.play = (recording, start, end) => {
  const audio = moss.audio();
  moss.show("recording");
  if (document.querySelector(`[data-unplayable="${CSS.escape(recording)}"]`)) {
    // A transcript without its media: its sentence is shown.
    moss.timeline.go(start + 0.01);
    return;
  }
  if (!audio || audio.dataset.recording !== recording) {
    moss.pending = { recording, start, end };
    moss.departed();
    moss.send("shelf", "open", { id: recording });
    return;
  }
  moss.pending = null;
  moss.following = true;
  // The start of a sentence may lie a hair before its first sample.
  moss.stand(audio, start + 0.01);
  audio.play().catch(() => {});
};

moss.speeds = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3];
/** The speed that the person chose, here or on an earlier visit. */
moss.speed = () => {
  const kept = Number(moss.stored("moss-speed"));
  return moss.speeds.includes(kept) ? kept : 1;
};

/** Choose a speed and remember it. */
moss.setSpeed = (speed) => {
  moss.stored("moss-speed", String(speed));
  moss.slowedUntil = null;
  moss.applySpeed();
};
/** Play at the speed that was chosen, or slower for as long as that lasts. */
moss.applySpeed = () => {
  const speed = moss.slowedUntil === null ? moss.speed() : Math.max(0.5, Math.round(75 * moss.speed()) / 100);
  const audio = moss.audio();
  // A new source begins at the default.
  if (audio) { audio.playbackRate = speed; audio.defaultPlaybackRate = speed; }
  const button = document.querySelector("[data-speed]");
  if (button) { button.textContent = `${speed}×`; button.setAttribute("aria-label", `Playback speed ${speed}×`); }
};

/** One step faster or slower. */
moss.stepSpeed = (step) => {
  const at = moss.speeds.indexOf(moss.speed()) + step;
  if (moss.speeds[at]) moss.setSpeed(moss.speeds[at]);
  moss.toast(`${moss.speed()}×`);
};

/** Go back a little and play slower, until the place where it was pressed is reached again. */
moss.rewindSlowly = () => {
  const audio = moss.audio();
  if (!audio) return;
  moss.slowedUntil = Math.max(moss.slowedUntil ?? 0, audio.currentTime);
  audio.currentTime = Math.max(0, audio.currentTime - 4);
  moss.applySpeed();
  audio.play().catch(() => {});
};

moss.toggle = () => {
  const audio = moss.audio();
  if (!audio) return;
  if (audio.paused) audio.play().catch(() => {}); else audio.pause();
};

/** Go to a second, playing or not. */
moss.seek = (time) => {
  const audio = moss.audio();
  if (!audio) return;
  moss.stand(audio, Math.min(Math.max(0, time), Math.max(0, Number(audio.dataset.duration) - 0.05)));
};

/** Controls as they are: playing or paused, and where. */
moss.showState = () => {
  const audio = moss.audio();
  const button = document.querySelector("[data-toggle]");
  if (!audio || !button) { moss.timeline.moved(); return; }
  if (moss.slowedUntil !== null && audio.currentTime >= moss.slowedUntil) { moss.slowedUntil = null; moss.applySpeed(); }
  button.dataset.state = audio.paused ? "paused" : "playing";
  button.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
  const now = document.querySelector("[data-now]");
  if (now) now.textContent = moss.clock(audio.currentTime);
  moss.timeline.moved();
};
moss.slowedUntil = null;

moss.player = (element, trigger, watch) => {
  moss.wire("player", trigger);
  const connect = () => {
    const audio = moss.audio();
    if (audio && !audio.moss) {
      audio.moss = true;
      moss.slowedUntil = null;
      for (const name of ["timeupdate", "seeked", "play"]) audio.addEventListener(name, () => moss.follow(name === "seeked"));
      for (const name of ["timeupdate", "seeking", "seeked", "play", "pause", "ended"]) audio.addEventListener(name, moss.showState);
      audio.addEventListener("loadedmetadata", moss.applySpeed);
    }
    moss.applySpeed();
    moss.timeline.connect();
    moss.showState();
    moss.standAt(audio);
    const volume = element.querySelector("[data-volume]");
    if (audio && volume) volume.value = audio.volume;
    if (!moss.pending) return;
    const { recording, start, end } = moss.pending;
    // Another one was opened, or none: the wish to play is not kept for later.
    moss.pending = null;
    if (audio?.dataset.recording === recording) moss.play(recording, start, end);
  };
  watch("value", connect);
  connect();
  element.addEventListener("input", (event) => {
    const audio = moss.audio();
    if (event.target.matches("[data-volume]") && audio) audio.volume = Number(event.target.value);
  });
  element.addEventListener("click", (event) => {
    if (event.target.closest("[data-toggle]")) moss.toggle();
    if (event.target.closest("[data-speed]")) {
      moss.setSpeed(moss.speeds[(moss.speeds.indexOf(moss.speed()) + 1) % moss.speeds.length]);
    }
    const follow = event.target.closest("[data-follow]");
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

/* A citation that has the focus answers to the space bar as a button does. */
document.addEventListener("keydown", (event) => {
  const cite = event.target.closest?.("a.cite");
  if (cite && event.key === " ") { event.preventDefault(); cite.click(); }
});
