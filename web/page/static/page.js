/* The page as a whole: light and dark, the views of a narrow screen, dialogs, times as people write them.
   Gradio's HTML parts call moss.<part>(element, trigger, …) when they appear; `trigger` raises a Python event. */
"use strict";
const moss = { parts: {} };
window.moss = moss;

/** Remember how to raise a part's events: moss.send("shelf", "open", {id}). */
moss.wire = (name, trigger) => { moss.parts[name] = trigger; };
moss.send = (name, event, data) => moss.parts[name]?.(event, data);

/** Run once the document is there; Gradio puts these scripts into the page before or after that. */
moss.ready = (run) => {
  if (document.body) run();
  else document.addEventListener("DOMContentLoaded", run, { once: true });
};

/** 125 -> "2:05", 3725 -> "1:02:05". */
moss.clock = (seconds) => {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
};

/* Light and dark: the system's wish, until the person chooses. */
moss.stored = (key, value) => {
  try {
    if (value !== undefined) localStorage.setItem(key, value);
    return localStorage.getItem(key);
  } catch { return null; }
};
moss.systemDark = matchMedia("(prefers-color-scheme: dark)");
moss.applyTheme = () => {
  const chosen = moss.stored("moss-theme");
  const dark = chosen ? chosen === "dark" : moss.systemDark.matches;
  document.documentElement.classList.toggle("dark", dark);
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
  // Gradio keeps its own mark on the body and sets it when it starts.
  if (document.body && document.body.classList.contains("dark") !== dark) document.body.classList.toggle("dark", dark);
};
moss.applyTheme();
moss.systemDark.addEventListener("change", moss.applyTheme);
moss.ready(() => {
  moss.applyTheme();
  new MutationObserver(moss.applyTheme).observe(document.body, { attributes: true, attributeFilter: ["class"] });
});

/* One view at a time where the screen is narrow; style sheets decide from data-view. */
moss.show = (view) => {
  document.documentElement.dataset.view = view;
  document.querySelectorAll("nav [data-view]").forEach((button) => {
    button.setAttribute("aria-current", String(button.dataset.view === view));
  });
};
document.documentElement.dataset.view = "recording";

moss.page = (element, trigger) => {
  moss.wire("page", trigger);
  element.addEventListener("click", (event) => {
    const view = event.target.closest("[data-view]");
    if (view) moss.show(view.dataset.view);
    if (event.target.closest("[data-theme-toggle]")) {
      moss.stored("moss-theme", document.documentElement.classList.contains("dark") ? "light" : "dark");
      moss.applyTheme();
    }
  });
  moss.show("recording");
};

/** Ask in a modal dialog; resolves to the text typed (or true), or null when it was given up. */
moss.ask = ({ title, text, label, value, choices, action, danger, long, most = 80 }) => new Promise((resolve) => {
  const make = (tag, props, ...children) => {
    const node = Object.assign(document.createElement(tag), props);
    node.append(...children);
    return node;
  };
  const input = label && make(long ? "textarea" : "input", { ...(long ? { rows: 4 } : { type: "text" }), value: value ?? "", maxLength: most, required: true });
  const go = make("button", { type: "submit", value: "go", className: danger ? "primary danger" : "primary", textContent: action });
  const stop = make("button", { type: "button", className: "btn", textContent: "Cancel" });
  const form = make("form", { method: "dialog" }, make("h2", { textContent: title }));
  if (text) form.append(make("p", { textContent: text }));
  if (input) {
    form.append(make("label", { className: "field" }, label, input));
    if (choices?.length) {
      const list = make("datalist", { id: "dialog-choices" }, ...choices.map((one) => make("option", { value: one })));
      input.setAttribute("list", "dialog-choices");
      form.append(list);
    }
  }
  form.append(make("div", { className: "dialog-actions" }, stop, go));
  const dialog = make("dialog", { className: "dialog" }, form);
  dialog.setAttribute("aria-label", title);
  stop.addEventListener("click", () => dialog.close(""));
  if (long) input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(go); }
  });
  dialog.addEventListener("close", () => {
    resolve(dialog.returnValue === "go" ? (input ? input.value.trim() : true) : null);
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  (input ?? stop).focus();
  input?.select();
});

/* A menu closes when one clicks elsewhere or presses Escape. */
document.addEventListener("click", (event) => {
  document.querySelectorAll("details.menu[open]").forEach((menu) => {
    if (!menu.contains(event.target) || event.target.closest("a")) menu.open = false;
  });
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.querySelector("details.menu[open]");
  if (menu) { menu.open = false; menu.querySelector("summary").focus(); }
});

/* The summary's Copy button fetches the same text that Download gives. */
moss.copying = (element) => element.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const reply = await fetch(button.dataset.copy);
  if (reply.ok) await navigator.clipboard.writeText(await reply.text());
  button.textContent = reply.ok ? "Copied" : "Could not copy";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

/* Conversation: new one, suggested questions. */
moss.asking = (element, trigger) => element.addEventListener("click", (event) => {
  if (event.target.closest("[data-new-chat]")) trigger("fresh", {});
});
/* A new question goes to the top of the pane, so that its answer is read from its beginning. Before there is an
   answer below it, the pane cannot scroll so far; so it follows until the answer is there, or the person scrolls. */
moss.questions = 0;
moss.leads = false;
for (const kind of ["wheel", "touchmove", "pointerdown"]) {
  document.addEventListener(kind, (event) => {
    if (event.target.closest?.("#answers")) moss.leads = false;
  }, { passive: true });
}
moss.watchAnswers = () => {
  const pane = document.querySelector("#answers .message-wrap")?.closest("[role=log]") ?? document.querySelector("#answers .panel-wrap");
  const rows = document.querySelectorAll("#answers .user-row");
  if (rows.length > moss.questions) moss.leads = true;
  if (moss.leads && pane && rows.length) {
    const last = rows[rows.length - 1];
    pane.scrollTo({ top: pane.scrollTop + last.getBoundingClientRect().top - pane.getBoundingClientRect().top });
  }
  const answered = rows.length && document.querySelector("#answers .bot-row") && !document.querySelector("#question .stop-button");
  if (moss.leads && answered) setTimeout(() => { moss.leads = false; }, 1000);
  moss.questions = rows.length;
  if (!document.querySelector("#question .stop-button")) moss.markSoon();
  document.querySelectorAll("#answers .thought-group .arrow button[aria-label='']").forEach((button) => {
    button.setAttribute("aria-label", "Show or hide this step");
    // Gradio puts it into a button of its own, which does the same.
    button.disabled = true;
  });
  document.querySelector("#question .submit-button")?.setAttribute("aria-label", "Ask");
  document.querySelector("#question .stop-button")?.setAttribute("aria-label", "Stop answering");
};
moss.ready(() => {
  new MutationObserver(moss.watchAnswers).observe(document.body, { childList: true, subtree: true });
});
/** After an answer is drawn: its citations are marked on the lane, once for many changes of the page. */
moss.markSoon = () => {
  const cited = [...document.querySelectorAll("#answers .bot-row a[href*='#play/']")].map((link) => link.getAttribute("href")).join();
  if (cited === moss.citedBefore) return;
  moss.citedBefore = cited;
  moss.timeline.mark();
};
moss.chips = (element, trigger) => element.addEventListener("click", (event) => {
  const chip = event.target.closest("[data-suggest]");
  if (chip) trigger("suggest", { text: chip.textContent });
});
