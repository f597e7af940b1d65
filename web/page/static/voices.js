/* Known voices: whether a speaker is who it may be, and whether voices may be remembered at all. */

moss.knownVoices = (element, trigger) => element.addEventListener("click", (event) => {
  const answer = event.target.closest("[data-voice]");
  if (answer) trigger("voice", { speaker: answer.dataset.voice, same: answer.dataset.same === "yes" });
});

/** Ask once, when a speaker is named; undefined where the answer is known. */
moss.mayRemember = async (element) => {
  if (!element.querySelector("[data-ask-voices]")) return undefined;
  return await moss.ask({
    title: "Know named voices again?", action: "Remember voices",
    text: "Speakers you name can be recognised in later recordings. How they sound is biometric data: it is kept on this machine only, "
      + "and you need their consent. Cancel remembers nobody.",
  }) === true;
};
