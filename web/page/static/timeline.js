/* The lane: who speaks when, over how loud it is, with topics, found places and comments. It is drawn on a canvas and
   is one slider to keyboard and screen reader; everything on it is also in the transcript or the summary. */

moss.timeline = {
  data: null,      // from timeline/<id>
  topics: [],      // from topics/<id>
  knowsTopics: false, // whether they have come
  peaks: null,     // bytes from peaks/<id>, for view
  view: null,      // {from, to} seconds
  found: [],       // [start, end] of sentences that match what is searched
  cited: [],       // [start, end] of the last answer's citations
  hover: null,     // seconds under the pointer
  silent: false,   // a transcript without its media: nothing plays, the lane shows who speaks when
  at: 0,           // where one stands in such a one, seconds
};

/** The second that one stands at, playing or not. */
moss.timeline.now = () => moss.audio()?.currentTime ?? moss.timeline.at;

/** Go to a second; where nothing can be played, its sentence is shown. */
moss.timeline.go = (time) => {
  const line = moss.timeline;
  if (!line.silent) { moss.seek(time); return; }
  line.at = Math.min(Math.max(0, time), line.duration);
  moss.follow(true);
  line.moved();
};

moss.voices = 8;
moss.timeline.colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Build the lane's parts in its place, which Gradio empties whenever it draws the player anew. */
moss.timeline.connect = () => {
  const line = moss.timeline;
  const place = document.getElementById("lane");
  if (!place) return;
  const { recording } = place.dataset;
  const duration = Number(place.dataset.duration);
  line.silent = "silent" in place.dataset;
  if (!place.firstElementChild) {
    const make = (name, parent) => {
      const node = Object.assign(document.createElement("div"), { className: name });
      parent.append(node);
      return node;
    };
    line.topicRow = make("lane-topics", place);
    line.topicRow.setAttribute("aria-hidden", "true");
    line.track = make("lane-track", place);
    line.canvas = document.createElement("canvas");
    line.canvas.setAttribute("aria-hidden", "true");
    line.track.append(line.canvas);
    line.head = make("lane-head", line.track);
    line.tip = make("lane-tip", place);
    line.tip.setAttribute("aria-hidden", "true");
    line.track.tabIndex = 0;
    line.track.setAttribute("role", "slider");
    line.track.setAttribute("aria-label", "Position in the recording");
    line.track.setAttribute("aria-valuemin", "0");
    line.zoomRow = make("lane-zoom", place);
    line.listen();
  }
  line.track.setAttribute("aria-valuemax", String(Math.round(duration)));
  if (line.recording !== recording) moss.forgetInstruction();
  if (line.recording !== recording || line.duration !== duration) {
    Object.assign(line, { recording, duration, data: null, topics: [], knowsTopics: false, peaks: null, found: [], cited: [], at: Number(place.dataset.at ?? 0), view: { from: 0, to: duration } });
  }
  line.zoomRow.hidden = duration < 900;
  line.reload();
  line.mark();
  if (line.silent) moss.follow(false);
};

/** Fetch anew what the lane shows: at first, and when speakers or sentences were changed. */
moss.timeline.reload = async () => {
  const line = moss.timeline;
  const { recording } = line;
  // The parts of the page are drawn one after the other: what was removed is not asked for any more.
  await new Promise((go) => setTimeout(go, 50));
  const isShown = () => recording && line.recording === recording && document.getElementById("lane")?.dataset.recording === recording;
  if (!isShown()) return;
  const ask = async (path) => {
    const reply = await fetch(`${path}/${recording}`).catch(() => null);
    return reply?.ok ? reply.json() : null;
  };
  line.loadPeaks();
  const data = await ask("timeline");
  if (line.recording !== recording) return;
  line.data = data ?? line.data;
  line.plan();
  line.draw();
  if (line.topics.length || !isShown()) return;
  const topics = await ask("topics");
  if (line.recording !== recording) return;
  line.topics = topics ?? [];
  line.knowsTopics = true;
  line.drawTopics();
};

/** How loud the stretch in view is, a byte for each bar. */
moss.timeline.loadPeaks = async () => {
  const line = moss.timeline;
  const { recording, view } = line;
  const width = line.track?.clientWidth;
  if (!width || line.silent || !(view.to > view.from)) return;
  const points = Math.max(40, Math.floor(width / 3));
  const wanted = `${recording} ${view.from} ${view.to} ${points}`;
  if (line.peaks && line.loaded === wanted) { line.plan(); line.draw(); return; }
  const reply = await fetch(`peaks/${recording}?start=${view.from.toFixed(3)}&end=${view.to.toFixed(3)}&points=${points}`).catch(() => null);
  if (!reply?.ok || line.recording !== recording || line.view !== view) return;
  line.peaks = new Uint8Array(await reply.arrayBuffer());
  line.loaded = wanted;
  if (view.from === 0 && view.to === line.duration) line.loudest = Math.max(1, ...line.peaks);
  line.plan();
  line.draw();
};

moss.timeline.x = (time) => {
  const { view, track } = moss.timeline;
  return (time - view.from) / (view.to - view.from) * track.clientWidth;
};
moss.timeline.timeAt = (clientX) => {
  const { view, track, duration } = moss.timeline;
  const box = track.getBoundingClientRect();
  const share = (clientX - box.left) / box.width;
  return Math.min(duration, Math.max(0, view.from + share * (view.to - view.from)));
};

/** Whose voice each bar is: the one that speaks longest in it. */
moss.timeline.plan = () => {
  const line = moss.timeline;
  if (!line.peaks || !line.data) { line.whose = null; return; }
  const count = line.peaks.length;
  const step = (line.view.to - line.view.from) / count;
  const most = new Float32Array(count);
  line.whose = new Int16Array(count).fill(-1);
  line.data.lanes.forEach((lane, voice) => {
    for (const [start, end] of lane.spans) {
      const first = Math.max(0, Math.floor((start - line.view.from) / step));
      const last = Math.min(count - 1, Math.floor((end - line.view.from) / step));
      for (let at = first; at <= last; at += 1) {
        const from = line.view.from + at * step;
        const share = Math.min(end, from + step) - Math.max(start, from);
        if (share > most[at]) { most[at] = share; line.whose[at] = voice; }
      }
    }
  });
};

const WAVE = 48;       // px of the waveform
const BARE = 12;       // px in its place where there is no audio
moss.timeline.wave = () => (moss.timeline.silent ? BARE : WAVE);
const LANE = 5;        // px of a voice's lane
const LANES_SHOWN = 8; // voices with a lane of their own

moss.timeline.height = () => {
  const line = moss.timeline;
  const { data } = line;
  const rows = data ? Math.min(LANES_SHOWN, data.lanes.length) + (data.sounds.length ? 1 : 0) : 3;
  return line.wave() + 8 + rows * (LANE + 2);
};

/** Draw waveform, lanes and marks twice: as they look before and after they were played. */
moss.timeline.draw = () => {
  const line = moss.timeline;
  const { canvas, track } = line;
  if (!canvas?.isConnected) return;
  const height = line.height();
  const wave = line.wave();
  const width = track.clientWidth;
  if (!width) return;
  const scale = window.devicePixelRatio || 1;
  track.style.height = `${height}px`;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const colours = Array.from({ length: moss.voices }, (_, at) => line.colour(`voice-${at}`));
  const [soft, mark, accent, warn, ink] = ["lane-idle", "mark-strong", "accent", "warn", "ink"].map(line.colour);
  const colourOf = (lane) => (lane.number === null ? soft : colours[lane.number % colours.length]);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const played = line.x(line.now());
  const bar = (left, top, wide, high) => { pen.beginPath(); pen.roundRect(left, top, wide, high, Math.min(wide, high) / 2); pen.fill(); };
  const faded = (left) => { pen.globalAlpha = left < played ? 1 : 0.42; };

  // Found places, citations and gaps are marked below the waveform; the few of an answer also behind it.
  const strip = (spans, colour, behind) => {
    for (const [start, end] of spans) {
      const left = line.x(start);
      const wide = Math.max(3, line.x(end) - left);
      pen.fillStyle = colour;
      pen.globalAlpha = 1;
      bar(left, wave + 1, wide, 3);
      if (!behind) continue;
      pen.globalAlpha = 0.16;
      pen.fillRect(left, 0, wide, wave);
    }
  };
  strip(line.data?.gaps ?? [], warn, false);
  strip(line.found, mark, line.found.length <= 12);
  strip(line.cited, accent, true);

  if (line.peaks) {
    const count = line.peaks.length;
    const step = width / count;
    for (let at = 0; at < count; at += 1) {
      const left = at * step;
      // Roots are stored; loudness as it is heard lies between them and what was measured.
      const high = Math.max(2, (line.peaks[at] / (line.loudest ?? 255)) ** 1.6 * (wave - 4));
      const voice = line.whose?.[at] ?? -1;
      pen.fillStyle = voice < 0 ? soft : colourOf(line.data.lanes[voice]);
      faded(left);
      bar(left, (wave - high) / 2, Math.max(1, step - 1), high);
    }
  }
  const row = (spans, top, colour) => {
    pen.fillStyle = colour;
    for (const [start, end] of spans) {
      const left = line.x(start);
      const right = line.x(end);
      if (right < 0 || left > width) continue;
      pen.globalAlpha = 0.85;
      bar(left, top, Math.max(2, right - left), LANE);
    }
  };
  let top = wave + 8;
  for (const lane of (line.data?.lanes ?? []).slice(0, LANES_SHOWN)) {
    pen.globalAlpha = 1;
    pen.fillStyle = line.colour("sunken");
    pen.fillRect(0, top, width, LANE);
    row(lane.spans, top, colourOf(lane));
    top += LANE + 2;
  }
  if (line.data?.sounds.length) row(line.data.sounds.map((one) => [one.start, one.end]), top, soft);

  pen.globalAlpha = 1;
  for (const comment of line.data?.comments ?? []) {
    const left = line.x(comment.at);
    pen.fillStyle = ink;
    pen.beginPath(); pen.arc(left, 4, 4, 0, 2 * Math.PI); pen.fill();
    pen.fillRect(left - 0.5, 4, 1, wave - 4);
  }
  line.head.style.transform = `translateX(${played}px)`;
  line.head.hidden = played < -1 || played > width + 1;
};

/** Topics as words above the waveform; what is too narrow for words is a tick. */
moss.timeline.drawTopics = () => {
  const line = moss.timeline;
  if (!line.topicRow?.isConnected) return;
  line.topicRow.replaceChildren();
  // Its place is kept until they are known: nothing below it moves when they come.
  line.topicRow.hidden = line.knowsTopics && !line.topics.length;
  const width = line.track.clientWidth;
  for (const [at, topic] of line.topics.entries()) {
    const left = Math.max(0, line.x(topic.start));
    const right = Math.min(width, line.x(line.topics[at + 1]?.start ?? line.duration));
    if (right <= 0 || left >= width || right - left < 2) continue;
    const node = Object.assign(document.createElement("span"), { textContent: right - left > 36 ? topic.title : "", title: topic.title });
    node.style.left = `${left}px`;
    node.style.width = `${right - left - 2}px`;
    node.addEventListener("click", () => moss.play(line.recording, topic.start, topic.end));
    line.topicRow.append(node);
  }
  line.listTopics();
};

/** The topics as a list to choose from: for the keyboard, and where the screen has no room for words. */
moss.timeline.listTopics = () => {
  const line = moss.timeline;
  const menu = document.querySelector("#player-bar [data-topics]");
  if (!menu) return;
  menu.hidden = !line.topics.length;
  const list = menu.querySelector("ol");
  const known = line.topics.map((topic) => `${topic.start} ${topic.title}`).join("\n");
  if (list.dataset.known === known) return;
  list.dataset.known = known;
  list.replaceChildren(...line.topics.map((topic) => {
    const button = moss.button("", "topic", () => { menu.open = false; moss.play(line.recording, topic.start, topic.end); });
    button.append(Object.assign(document.createElement("time"), { textContent: moss.clock(topic.start) }), topic.title);
    const row = document.createElement("li");
    row.append(button);
    return row;
  }));
};

/** The position changed. */
moss.timeline.moved = () => {
  const line = moss.timeline;
  const audio = moss.audio();
  if (!line.track?.isConnected) return;
  const time = line.now();
  line.track.setAttribute("aria-valuenow", String(Math.round(time)));
  line.track.setAttribute("aria-valuetext", line.describe(time));
  // Zoomed in, the lane turns over like a page.
  const span = line.view.to - line.view.from;
  if (audio && !audio.paused && !line.dragging && span < line.duration && (time < line.view.from || time > line.view.to)) {
    line.show(time - 0.05 * span, time + 0.95 * span);
    return;
  }
  line.draw();
};

/** "2:05 of 5:06, Speaker 1, The budget" */
moss.timeline.describe = (time) => {
  const line = moss.timeline;
  const parts = [`${moss.clock(time)} of ${moss.clock(line.duration)}`];
  const voice = line.data?.lanes.find((lane) => lane.spans.some(([start, end]) => start <= time && time < end));
  if (voice?.name) parts.push(voice.name);
  const sound = line.data?.sounds.find((one) => one.start <= time && time < one.end);
  if (sound) parts.push(sound.text);
  const topic = line.topics.findLast?.((one) => one.start <= time);
  if (topic) parts.push(topic.title);
  return parts.join(", ");
};

/** Show a stretch; never less than ten seconds nor more than there is. */
moss.timeline.show = (from, to) => {
  const line = moss.timeline;
  const span = Math.min(line.duration, Math.max(10, to - from));
  const start = Math.min(Math.max(0, from), line.duration - span);
  line.view = { from: start, to: start + span };
  clearTimeout(line.waiting);
  line.peaks = null;
  line.waiting = setTimeout(line.loadPeaks, 60);
  line.drawTopics();
  line.draw();
  line.drawZoom();
};

/** Zoom by a factor around a second. */
moss.timeline.zoom = (factor, around) => {
  const { from, to } = moss.timeline.view;
  moss.timeline.show(around - (around - from) * factor, around + (to - around) * factor);
};

moss.timeline.drawZoom = () => {
  const line = moss.timeline;
  const label = line.zoomRow.querySelector("output");
  const { from, to } = line.view;
  if (label) label.textContent = to - from < line.duration ? `${moss.clock(from)}–${moss.clock(to)}` : "";
};

/** Pointer, keyboard, zoom. */
moss.timeline.listen = () => {
  const line = moss.timeline;
  const { track, tip, zoomRow } = line;
  const snapped = (time) => {
    const near = (line.view.to - line.view.from) / track.clientWidth * 6;
    return line.data?.comments?.find((one) => Math.abs(one.at - time) <= near)?.at ?? time;
  };
  const hint = (event) => {
    const time = line.timeAt(event.clientX);
    const comment = line.data?.comments?.find((one) => one.at === snapped(time));
    tip.textContent = comment ? `${moss.clock(comment.at)}  ${comment.text}` : line.describe(time).replace(` of ${moss.clock(line.duration)}`, "");
    const box = track.getBoundingClientRect();
    const half = tip.offsetWidth / 2;
    tip.style.left = `${Math.min(Math.max(event.clientX - box.left, half), box.width - half)}px`;
    tip.classList.add("shown");
  };
  track.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    track.setPointerCapture(event.pointerId);
    line.dragging = true;
    line.go(snapped(line.timeAt(event.clientX)));
    hint(event);
  });
  track.addEventListener("pointermove", (event) => {
    hint(event);
    if (line.dragging) line.go(line.timeAt(event.clientX));
  });
  const end = () => { line.dragging = false; };
  track.addEventListener("pointerup", (event) => { end(); if (event.pointerType === "touch") tip.classList.remove("shown"); });
  track.addEventListener("pointercancel", () => { end(); tip.classList.remove("shown"); });
  track.addEventListener("pointerleave", () => tip.classList.remove("shown"));
  track.addEventListener("wheel", (event) => {
    const span = line.view.to - line.view.from;
    if (event.ctrlKey) { event.preventDefault(); line.zoom(event.deltaY > 0 ? 1.25 : 0.8, line.timeAt(event.clientX)); }
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && span < line.duration) {
      event.preventDefault();
      line.show(line.view.from + event.deltaX / track.clientWidth * span, line.view.to + event.deltaX / track.clientWidth * span);
    }
  }, { passive: false });
  track.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const far = Math.max(30, line.duration / 20);
    const now = line.now();
    const to = {
      ArrowLeft: now - 5, ArrowDown: now - 5, ArrowRight: now + 5, ArrowUp: now + 5,
      PageDown: now - far, PageUp: now + far, Home: 0, End: line.duration,
    }[event.key];
    if (to !== undefined) { event.preventDefault(); line.go(to); }
    else if (event.key === "Enter") { event.preventDefault(); moss.toggle(); }
    else if (event.key === "+" || event.key === "-") { event.preventDefault(); line.zoom(event.key === "+" ? 0.5 : 2, now); }
  });
  const smaller = moss.button("−", "quiet", () => line.zoom(2, line.now()));
  const larger = moss.button("+", "quiet", () => line.zoom(0.5, line.now()));
  smaller.setAttribute("aria-label", "Show more of the recording");
  larger.setAttribute("aria-label", "Show less of the recording, larger");
  zoomRow.append(smaller, larger, document.createElement("output"));
  new ResizeObserver(() => { line.drawTopics(); line.loadPeaks(); line.draw(); }).observe(track);
};
moss.ready(() => {
  new MutationObserver(() => moss.timeline.draw()).observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
});

/** What is marked on the lane: sentences that match the search, and what the last answer cites. */
moss.timeline.mark = () => {
  const line = moss.timeline;
  if (!line.track?.isConnected) return;
  const wanted = moss.finder?.querySelector("[data-filter]").value.trim();
  const place = (node, start, end) => [Number(node.dataset[start]), Number(node.dataset[end])];
  line.found = wanted ? (moss.rows ?? []).filter((row) => !row.hidden).map((row) => place(row, "start", "end")) : [];
  for (const button of document.querySelectorAll("#found [data-play]")) {
    if (button.dataset.recording === line.recording) line.found.push(place(button, "play", "until"));
  }
  line.cited = [];
  const answers = document.querySelectorAll("#answers .bot-row");
  for (const link of answers[answers.length - 1]?.querySelectorAll("a[href*='#play/']") ?? []) {
    const found = /#play\/([\d.]+)\/([\d.]+)\/([0-9a-f]+)$/.exec(link.getAttribute("href"));
    if (found?.[3] === line.recording) line.cited.push([Number(found[1]), Number(found[2])]);
  }
  line.draw();
};
