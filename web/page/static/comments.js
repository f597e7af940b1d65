/* Comments at a moment: added, changed and deleted; the transcript and the lane show them. */

/** Ask for a comment at a second; what plays is paused meanwhile. */
moss.comment = async (at) => {
  if (moss.isFixed()) return;
  const audio = moss.audio();
  const played = audio && !audio.paused;
  audio?.pause();
  const text = await moss.ask({ title: `Comment at ${moss.clock(at)}`, label: "Comment", long: true, most: 4000, action: "Add" });
  if (text) moss.send("player", "comment", { at, text });
  if (played) audio.play().catch(() => {});
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-comment], [data-recomment], [data-uncomment]");
  if (!button) return;
  const { recomment, uncomment } = button.dataset;
  const text = button.closest(".remark")?.querySelector("p").textContent;
  if (recomment) {
    const changed = await moss.ask({ title: "Change the comment", label: "Comment", value: text, long: true, most: 4000, action: "Save" });
    if (changed && changed !== text) moss.send("player", "recomment", { id: recomment, text: changed });
  } else if (uncomment) {
    if (await moss.ask({ title: "Delete this comment?", text, action: "Delete", danger: true })) moss.send("player", "uncomment", { id: uncomment });
  } else moss.comment(moss.timeline.now());
});
