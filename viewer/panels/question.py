"""Dialog of a question that has to be answered first."""

from imgui_bundle import imgui

from viewer.unsaved import Answer, Question, Unsaved

WIDTH_EM = 26.0


class QuestionDialog:
    """Dialog with the question on the screen."""

    def __init__(self) -> None:
        self._shown: Question | None = None

    def draw(self, unsaved: Unsaved) -> None:
        """Show the question; Enter is the first answer, Esc the last."""
        question = unsaved.question
        if question is None:
            self._shown = None
            return
        title = f"{question.title}###question"
        if question is not self._shown:
            imgui.open_popup(title)
            self._shown = question
        centre = imgui.get_main_viewport().get_center()
        imgui.set_next_window_pos(centre, imgui.Cond_.always, (0.5, 0.5))
        imgui.set_next_window_size((imgui.get_font_size() * WIDTH_EM, 0))
        flags = imgui.WindowFlags_.no_resize | imgui.WindowFlags_.no_saved_settings
        visible, _ = imgui.begin_popup_modal(title, None, int(flags))
        if not visible:  # closed by Esc
            unsaved.answer(question.answers[-1])
            return
        imgui.text_wrapped(question.text)
        imgui.dummy((0, imgui.get_font_size() * 0.4))
        answer = _draw_answers(question)
        if answer is not None:
            imgui.close_current_popup()
        imgui.end_popup()
        if answer is not None:
            unsaved.answer(answer)


def _draw_answers(question: Question) -> Answer | None:
    """Draw a button for each answer. Returns the one that was pressed."""
    pressed = None
    for answer in question.answers:
        if imgui.button(answer.label, (imgui.get_font_size() * 7, 0)):
            pressed = answer
        imgui.same_line()
    imgui.new_line()
    if not imgui.is_window_appearing() and imgui.is_key_pressed(imgui.Key.enter):
        pressed = question.answers[0]
    return pressed
