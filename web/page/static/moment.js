/* Links to a moment: the page opens at ?recording=…&t=…, and gives such links away. */

/** What the address asks for; asked once, when the page opens. */
moss.arriving = () => {
  const asked = new URLSearchParams(location.search);
  return asked.has("recording") ? { recording: asked.get("recording"), t: asked.get("t") ?? "" } : null;
};

/** The address speaks of what is open: it is cleared when something else is opened. */
moss.departed = () => { if (location.search) history.replaceState(null, "", location.pathname); };

/** A link to second `at` of a recording. */
moss.momentLink = (recording, at) => {
  const seconds = String(Math.max(0, Math.round(at * 100) / 100));
  return `${location.origin}${location.pathname}?${new URLSearchParams({ recording, t: seconds })}`;
};

/** Stand at the moment that the page was opened for, without playing: browsers allow sound after a gesture only. */
moss.standAt = (audio) => {
  const lane = document.getElementById("lane");
  if (moss.timeline.silent && lane?.dataset.at) {
    const at = Number(lane.dataset.at);
    delete lane.dataset.at;
    moss.show("recording");
    moss.timeline.go(at + 0.01);
    return;
  }
  if (!audio?.dataset.at) return;
  const at = Number(audio.dataset.at);
  delete audio.dataset.at;
  moss.show("recording");
  moss.stand(audio, at);
};

/** Copy a text; where the browser keeps the clipboard from a page (not on 127.0.0.1), show it to be copied. */
moss.copyText = async (text, title) => {
  try {
    await navigator.clipboard.writeText(text);
    moss.toast("Link copied");
  } catch { await moss.ask({ title, label: "Link", value: text, action: "Done", most: 2000 }); }
};

/** A few words that go away by themselves. */
moss.toast = (text) => {
  let place = document.getElementById("toast");
  if (!place) {
    place = Object.assign(document.createElement("div"), { id: "toast" });
    place.setAttribute("role", "status");
    document.body.append(place);
  }
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(moss.toasting);
  moss.toasting = setTimeout(() => place.classList.remove("shown"), 1800);
};

document.addEventListener("click", (event) => {
  if (!event.target.closest?.("[data-copy-moment]")) return;
  const line = moss.timeline;
  if (line.recording) moss.copyText(moss.momentLink(line.recording, line.now()), "Link to this moment");
});
