"""What the model is asked, word for word.

The prompts for transcription, sentence times, speakers and the speech caption are those that the makers of
MOSS-Audio published for it (in issues 3, 6 and 7 of OpenMOSS/MOSS-Audio), since a model does best on the
words it was evaluated with. The others are ours.
"""

TRANSCRIBE = "Transcribe the audio."

SENTENCES = (
    "Transcribe the audio into sentence-level timestamps using the format [xx.xx]text[yy.yy], where xx.xx "
    "and yy.yy are millisecond-precision timestamps rounded to two decimal places. Concatenate consecutive "
    "segments without breaks, for example [0.00]hello there[2.01][2.01]the weather is nice today[4.32]. "
    "Exclude any additional content such as explanations, headings, or annotations."
)

WORDS = (
    "Transcribe the audio into word-level timestamps using the format [xx.xx]word[yy.yy], where xx.xx and "
    "yy.yy are millisecond-precision timestamps rounded to two decimal places. Give every word its own pair "
    "of timestamps and concatenate consecutive words without breaks, for example "
    "[0.00]hello[0.42][0.50]there[0.91]. Exclude any additional content such as explanations, headings, or "
    "annotations."
)

SPEAKERS = (
    "Transcribe the audio into text. Each sentence should begin with a start timestamp and a speaker label "
    "([S01], [S02], [S03], …), followed by the corresponding spoken content, and end with an end timestamp "
    "to clearly indicate the time span of that sentence."
)

EVENTS = (
    "List every sound event in the audio in order of time, one event per line, in the format "
    "start_sec - end_sec: event description, for example 0.00 - 1.20: a dog barks. Times are seconds from "
    "the start of the audio, with two decimal places. Write nothing else."
)

CAPTION = (
    "Describe the vocal characteristics in the audio in JSON format. Include the following fields: gender, "
    "age, pitch, speed, volume, clarity, fluency, accent, texture, emotion, tone, personality, and summary. "
    "Fill each field with the corresponding description."
)

MUSIC = (
    "Describe the music in the audio: genre, instruments and voices, tempo, rhythm and key, mood, how it is "
    "produced, and how it changes over time. If there is no music, say so."
)

SCENE = (
    "Describe the scene in the audio: where it seems to be, what can be heard in the foreground and in the "
    "background, who or what makes each sound, and what is happening."
)
