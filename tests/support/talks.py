"""Short talks of several kinds with what a careful reader would list, to measure summaries on.

They hold things that only look like decisions or promises: what was decided years ago, "I'll be honest",
"if we had agreed", questions for effect, requests that were turned down.
"""

from __future__ import annotations

from dataclasses import dataclass

from index.records import Segment


@dataclass(frozen=True)
class Talk:
    """``Speaker: sentence`` lines, and a part of the text of each thing to find.

    An action is (owners that are right, due words, part of its text); an owner of None is "nobody named".
    """

    template: str
    lines: str
    decisions: tuple[str, ...] = ()
    actions: tuple[tuple[tuple[str | None, ...], str | None, str], ...] = ()
    questions: tuple[str, ...] = ()


def script(text: str) -> list[Segment]:
    """Segments of ``Speaker: sentence`` lines: three seconds each, half a second between them."""
    lines = [line.strip().split(": ", 1) for line in text.strip().splitlines()]
    return [
        Segment(at * 3.5, at * 3.5 + 3, said, speaker=who, id=at + 1) for at, (who, said) in enumerate(lines)
    ]


TALKS = {
    "product meeting": Talk(
        "meeting",
        """
        Speaker 1: Alright everyone, thanks for joining.
        Speaker 1: First item on the agenda is the onboarding flow.
        Speaker 2: So the completion rate dropped to sixty percent last month.
        Speaker 2: Most people give up on the third screen, where we ask for a phone number.
        Speaker 3: Do we even need the phone number?
        Speaker 2: Not really, it was a marketing request.
        Speaker 1: Then let's remove it.
        Speaker 3: Agreed.
        Speaker 1: Priya, could you open a ticket for that by end of day?
        Speaker 3: Sure thing.
        Speaker 1: Great, next up is pricing.
        Speaker 2: I ran the survey with two hundred customers.
        Speaker 2: Most of them would pay up to twelve dollars a month.
        Speaker 3: If we had decided to raise the price last year we would have lost half of them.
        Speaker 1: I'm not sure about that.
        Speaker 1: OK so we're going with twelve dollars starting in June.
        Speaker 1: Marcus, you take the announcement.
        Speaker 2: Okay, I'll draft something by Tuesday and send it around.
        Speaker 3: I still don't know how we handle existing customers.
        Speaker 1: That's a good question, we need to find out what legal says.
        Speaker 1: Let's take that offline.
        Speaker 1: Moving on to hiring.
        Speaker 3: We interviewed four candidates for the design role.
        Speaker 3: I'll be honest, none of them convinced me.
        Speaker 1: Should we extend the search?
        Speaker 3: Yes, I think we should.
        Speaker 1: Okay, we will extend the search by two weeks.
        Speaker 1: Priya, would you mind asking the agency for more names?
        Speaker 3: Yep, I'll get in touch with them tomorrow morning.
        """,
        decisions=("remove it", "twelve dollars", "extend the search"),
        actions=(
            (("Priya",), "by end of day", "open a ticket"),
            (("Marcus",), "by Tuesday", "draft something"),
            (("Priya",), "tomorrow morning", "asking the agency"),
        ),
        questions=("existing customers", "what legal says"),
    ),
    "board meeting": Talk(
        "meeting",
        """
        Speaker 1: I call the meeting to order.
        Speaker 1: The minutes of the last meeting were approved in March.
        Speaker 2: I move that we accept the auditor's report.
        Speaker 3: I second that.
        Speaker 1: All in favour?
        Speaker 1: The motion is carried unanimously.
        Speaker 1: Next item, the roof of the gymnasium.
        Speaker 2: The quote from the roofer is thirty thousand euros.
        Speaker 2: Who would have thought a roof could cost that much?
        Speaker 3: We don't have that kind of money.
        Speaker 1: We could apply for a grant.
        Speaker 2: I can do that, the deadline is the fifteenth of May.
        Speaker 1: Excellent, Helena will apply for the grant by the fifteenth of May.
        Speaker 3: And somebody needs to call the roofer and ask for a second quote.
        Speaker 3: I guess I'll do it next week.
        Speaker 1: We've also agreed to postpone the summer party until September.
        Speaker 2: Whether we need a new caretaker is still open.
        Speaker 1: Yes, we'll discuss it at the next meeting.
        Speaker 1: Any other business?
        Speaker 3: No.
        """,
        decisions=("motion is carried", "postpone the summer party"),
        actions=(
            (("Helena",), "by the fifteenth of May", "apply for the grant"),
            (("Speaker 3",), "next week", "call the roofer"),
        ),
        questions=("new caretaker",),
    ),
    "words without capitals or marks": Talk(
        "meeting",
        """
        Speaker 1: ok so let's get going
        Speaker 2: yeah so the server migration is done more or less
        Speaker 1: nice and what about the backups
        Speaker 2: we haven't decided yet where to put them
        Speaker 1: ok let's decide that next week
        Speaker 1: sarah can you ask the hosting company for a quote by wednesday
        Speaker 3: yeah i'll do that
        Speaker 1: and we agreed to switch off the old machine on the first of july
        Speaker 2: right i'll write the announcement on monday
        Speaker 1: cool i'll see you all next week
        """,
        decisions=("switch off the old machine",),
        actions=(
            (("Speaker 3",), "by wednesday", "hosting company"),
            (("Speaker 2",), "on monday", "announcement"),
        ),
        questions=("where to put them",),
    ),
    "biology lecture": Talk(
        "lecture",
        """
        Speaker 1: Good afternoon, welcome to the third lecture on plant biology.
        Speaker 1: Today we will look at photosynthesis.
        Speaker 1: Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.
        Speaker 1: It happens in the chloroplasts, small green bodies inside the cell.
        Speaker 1: The green colour comes from chlorophyll, which absorbs red and blue light.
        Speaker 1: Why is that important?
        Speaker 1: Because the energy of that light drives everything that follows.
        Speaker 1: In the seventeenth century people decided that plants must eat soil.
        Speaker 1: Van Helmont weighed a willow for five years and showed that they do not.
        Speaker 1: Let's move on to respiration.
        Speaker 1: Respiration burns sugar with oxygen to release energy for the cell.
        Speaker 1: It happens in the mitochondria, day and night.
        Speaker 1: A seed in the dark only respires, it cannot photosynthesise.
        Speaker 2: Do plants respire in daylight as well?
        Speaker 1: Yes they do, all the time, but photosynthesis hides it.
        Speaker 1: If you want to measure it, you have to put the plant in the dark.
        Speaker 1: I will come back to that next week.
        Speaker 1: Please read chapter four before Thursday.
        Speaker 1: And hand in your lab reports by Friday.
        """,
        decisions=(),
        actions=(((None,), "before Thursday", "chapter four"), ((None,), "by Friday", "lab reports")),
        questions=("in daylight",),
    ),
    "beekeeper": Talk(
        "interview",
        """
        Speaker 1: Welcome back to the podcast.
        Speaker 1: My guest today is a beekeeper from the north.
        Speaker 1: Tell me, how did you get into bees?
        Speaker 2: My grandfather had twelve hives behind his house.
        Speaker 2: When I was nine he gave me a veil and let me hold a frame full of bees.
        Speaker 2: I was hooked, I mean, who wouldn't be?
        Speaker 1: And is it true that bees are dying out?
        Speaker 2: It's complicated.
        Speaker 2: Honey bees are doing fine because people keep them.
        Speaker 2: Wild bees are the ones in trouble, because the meadows are gone.
        Speaker 1: What can a person with a balcony do about that?
        Speaker 2: Plant thyme and let it flower.
        Speaker 2: And don't mow everything, leave a corner of the garden wild.
        Speaker 2: I decided years ago to stop mowing and my neighbours complained.
        Speaker 1: I'll give you one last question.
        Speaker 1: What is your favourite honey?
        Speaker 2: Lime blossom, without any doubt.
        Speaker 1: Thank you for coming.
        """,
        decisions=(),
        actions=(),
        questions=(),
    ),
    "stand-up": Talk(
        "standup",
        """
        Speaker 1: Morning, who wants to start?
        Speaker 2: I can go.
        Speaker 2: Yesterday I finished the login page and fixed two bugs.
        Speaker 2: Today I'm going to write the tests for it.
        Speaker 2: No blockers.
        Speaker 3: I worked on the import job.
        Speaker 3: I'm still waiting for access to the database.
        Speaker 3: Once I have that I'll run the migration.
        Speaker 1: I'll ask operations about the access today.
        Speaker 3: Thanks.
        Speaker 1: I reviewed three pull requests, and I'll prepare the demo this afternoon.
        Speaker 1: We agreed to release on Thursday, right?
        Speaker 2: Yes.
        """,
        decisions=(),
        actions=(
            (("Speaker 2",), "Today", "write the tests"),
            (("Speaker 3",), None, "run the migration"),
            (("Speaker 1",), "today", "ask operations"),
            (("Speaker 1",), "this afternoon", "prepare the demo"),
        ),
        questions=(),
    ),
    "sales call": Talk(
        "call",
        """
        Speaker 1: Hi Linda, thanks for taking the time.
        Speaker 2: Hi Omar, happy to.
        Speaker 1: Did you get a chance to look at the proposal?
        Speaker 2: I did, and the price is fine, but the contract length worries me.
        Speaker 2: Two years is too long for us.
        Speaker 1: I hear you, we could do twelve months.
        Speaker 2: That would work.
        Speaker 1: Great, let's do twelve months then.
        Speaker 1: I'll send you the updated contract by tomorrow.
        Speaker 2: And could you send me the security questionnaire as well?
        Speaker 1: Of course, you'll have it by Monday.
        Speaker 2: I need to check with our lawyer whether we can sign in April.
        Speaker 1: When do you think you will know?
        Speaker 2: I'll let you know by the end of next week.
        Speaker 1: Wonderful, let's schedule a call on the tenth.
        Speaker 2: Sounds good.
        Speaker 1: Would you like to see the new dashboard before we go?
        Speaker 2: Maybe another time.
        """,
        decisions=("twelve months then",),
        actions=(
            (("Speaker 1",), "by tomorrow", "updated contract"),
            (("Speaker 1",), "by Monday", "security questionnaire"),
            (("Speaker 2",), "by the end of next week", "let you know"),
            ((None,), "on the tenth", "schedule a call"),
        ),
        questions=(),
    ),
    "dinner talk": Talk(
        "meeting",
        """
        Speaker 1: We went to the lake on Sunday.
        Speaker 2: Will you go again?
        Speaker 1: I will if the weather holds.
        Speaker 2: My brother will never forget the time we called the coast guard.
        Speaker 1: You should write a book about that.
        Speaker 2: I'll write it when I retire.
        Speaker 1: Can you pass the salt please?
        Speaker 2: Here you go.
        Speaker 1: The council decided to close the pool, that's so silly.
        Speaker 2: We agreed on that, didn't we?
        Speaker 1: I have to run, I'll call you tomorrow.
        """,
        decisions=(),
        actions=((("Speaker 1",), "tomorrow", "call you"),),
        questions=(),
    ),
    "kitchen renovation": Talk(
        "meeting",
        """
        Speaker 1: Okay, so let's talk about the kitchen.
        Speaker 2: The cabinets arrive in three weeks.
        Speaker 1: Did the electrician give us a date?
        Speaker 2: Not yet, I'll phone him tomorrow morning.
        Speaker 3: We also have to choose the tiles.
        Speaker 1: I like the grey ones.
        Speaker 3: Me too.
        Speaker 2: Fine, then we take the grey ones.
        Speaker 3: I can order them online.
        Speaker 1: Nora, please wait until we have the exact size of the wall.
        Speaker 3: Okay, I'll measure the wall on Saturday.
        Speaker 1: What about the budget?
        Speaker 2: We have spent nine thousand so far, which leaves four thousand.
        Speaker 2: I'm afraid the floor is going to cost more than that.
        Speaker 1: We said last month that we would not touch the savings.
        Speaker 3: Well, how else do you pay for a floor?
        Speaker 1: Let's think about it over the weekend and decide on Monday.
        Speaker 2: Dad will send us his carpenter's number.
        Speaker 1: That would help.
        """,
        decisions=("we take the grey ones",),
        actions=(
            (("Speaker 2",), "tomorrow morning", "phone him"),
            (("Nora", "Speaker 3"), "on Saturday", "measure the wall"),
        ),
        questions=("decide on Monday",),
    ),
    "clinic handover": Talk(
        "meeting",
        """
        Speaker 1: Good morning, four patients today.
        Speaker 1: Bed one had a quiet night, no fever, he slept well.
        Speaker 2: Has he eaten?
        Speaker 1: Half of his breakfast.
        Speaker 1: Bed two is waiting for the scan.
        Speaker 1: Joe, could you ring radiology and ask when they can take her?
        Speaker 2: Yes, will do.
        Speaker 1: The family wants to talk to the consultant before noon.
        Speaker 3: I'll see them at eleven.
        Speaker 1: Bed three, the wound looks better, so we've agreed to stop the antibiotics today.
        Speaker 3: Good.
        Speaker 1: It's not clear yet whether she can go home this week.
        Speaker 3: Let me look at her blood results first.
        Speaker 1: Bed four is new, he fell in his garden, what a way to start the day.
        Speaker 2: I will write up his chart by ten o'clock.
        Speaker 1: Thanks, and someone has to order more dressings.
        Speaker 2: I'll do that.
        """,
        decisions=("agreed to stop the antibiotics",),
        actions=(
            (("Joe", "Speaker 2"), None, "ring radiology"),
            (("Speaker 2",), "by ten o'clock", "write up"),
            (("Speaker 2",), None, "dressings"),
            (("Speaker 3",), "at eleven", "see them"),
        ),
        questions=("go home this week",),
    ),
    "club agm": Talk(
        "meeting",
        """
        Speaker 1: Welcome, we have a full house tonight.
        Speaker 1: First topic, the membership fee.
        Speaker 2: We have not raised it since two thousand fifteen.
        Speaker 3: If we raise it, we will lose the students.
        Speaker 4: I propose to raise it by five euros and keep the student fee.
        Speaker 1: Who is in favour?
        Speaker 1: Nineteen in favour, two against, so the proposal is accepted.
        Speaker 1: Second topic, the summer tournament.
        Speaker 2: We decided in two thousand nineteen not to host it any more.
        Speaker 4: Things have changed, we have two new courts now.
        Speaker 3: I would love to have it back.
        Speaker 1: Right, we'll host the tournament in August.
        Speaker 1: Petra, can you talk to the town about parking until the end of March?
        Speaker 4: Sure.
        Speaker 1: And we need someone for the catering.
        Speaker 2: My sister could do it, I'll ask her tonight.
        Speaker 3: Where do we put the guests if it rains?
        Speaker 1: No idea, honestly.
        Speaker 1: To recap, the fee goes up, and Petra talks to the town about parking.
        """,
        decisions=("the proposal is accepted", "we'll host the tournament"),
        actions=(
            (("Petra", "Speaker 4"), "until the end of March", "parking"),
            (("Speaker 2",), "tonight", "ask her"),
        ),
        questions=("if it rains",),
    ),
    "history lecture": Talk(
        "lecture",
        """
        Speaker 1: Last week we ended with the fall of the city in fourteen fifty three.
        Speaker 1: Now, what happened to the scholars who fled?
        Speaker 1: Many of them went to Venice and Florence and took their books along.
        Speaker 1: I will give you two examples.
        Speaker 1: Bessarion left his library of eight hundred manuscripts to the city of Venice.
        Speaker 1: The senate decided to build a library for it, but that took almost a century.
        Speaker 1: You have to imagine the books in wooden crates all that time.
        Speaker 2: Were they not afraid of mould?
        Speaker 1: They were, and we have letters that complain about it.
        Speaker 1: Let's turn to the printers.
        Speaker 1: Aldus Manutius printed Greek books in small format that a student could carry.
        Speaker 1: We will come to his typefaces later.
        Speaker 1: Nobody knows exactly how many copies he sold.
        Speaker 1: For next time, please prepare the two letters on the handout.
        Speaker 1: The essay is due on the twelfth of December, so submit it by email by noon.
        """,
        decisions=(),
        actions=(((None,), None, "prepare the two letters"), ((None,), "by noon", "submit it")),
        questions=("afraid of mould",),
    ),
    "support call": Talk(
        "call",
        """
        Speaker 1: Support, this is Daniel speaking, how can I help you?
        Speaker 2: Hi, my router keeps losing the connection.
        Speaker 1: I'm sorry to hear that.
        Speaker 1: Can you tell me which light is blinking?
        Speaker 2: The second one, it is orange.
        Speaker 1: Could you please unplug it and wait for ten seconds?
        Speaker 2: Okay, done.
        Speaker 2: It's still orange.
        Speaker 1: Then I'll send you a new one, it should arrive on Thursday.
        Speaker 2: Do I have to send the old one back?
        Speaker 1: Yes, please return it within two weeks, I'll email you the label today.
        Speaker 2: And will I be charged for the days without internet?
        Speaker 1: I don't know, I'd have to ask billing.
        Speaker 2: Please do.
        Speaker 1: Sure, I'll call you back by Friday.
        """,
        decisions=(),
        actions=(
            (("Daniel", "Speaker 1"), None, "send you a new one"),
            (("Speaker 2", None), "within two weeks", "return it"),
            (("Daniel", "Speaker 1"), "today", "label"),
            (("Daniel", "Speaker 1"), "by Friday", "call you back"),
        ),
        questions=("charged for the days",),
    ),
    "podcast": Talk(
        "interview",
        """
        Speaker 1: Today I'm talking to a woman who rowed across the Atlantic alone.
        Speaker 1: Why would anybody do that?
        Speaker 2: I ask myself that every morning.
        Speaker 2: I wanted to know what I do when nobody is watching.
        Speaker 1: Mm-hm.
        Speaker 2: And I had decided at sixteen that I would cross an ocean before I turned forty.
        Speaker 1: What was the worst night?
        Speaker 2: Day thirty two, the boat turned over twice and I lost my water pump.
        Speaker 2: I thought, I will never complain about rain again.
        Speaker 1: And will you go again?
        Speaker 2: I'll never say never, but my knees have agreed to stay on land.
        Speaker 1: Wonderful, let's take a short break.
        """,
        decisions=(),
        actions=(),
        questions=(),
    ),
    "sprint planning, no commas or capitals": Talk(
        "meeting",
        """
        Speaker 1: so the next topic is the search page
        Speaker 2: it takes four seconds to load and users hate it
        Speaker 3: can we cache the results
        Speaker 2: we could but then they're stale
        Speaker 1: ok let's cache them for five minutes
        Speaker 2: sounds good
        Speaker 3: i'll implement it this week
        Speaker 1: great and could you also write a test for it
        Speaker 3: yes sure
        Speaker 1: the other thing is the outage on monday
        Speaker 2: i think we should write a report
        Speaker 1: yes please do that by thursday
        Speaker 2: will do
        Speaker 1: we still don't know why the alarm didn't go off
        Speaker 3: no but i'll be glad when we do
        Speaker 1: ok that's all thanks
        """,
        decisions=("let's cache them",),
        actions=(
            (("Speaker 3",), "this week", "implement it"),
            (("Speaker 3",), None, "write a test"),
            (("Speaker 2",), "by thursday", "do that"),
        ),
        questions=("why the alarm",),
    ),
}
