// Labelling with single keys. Without this file, the boxes and the button do the same.
"use strict";

{
  const form = document.getElementById("label");
  if (form) {
    const cards = Array.from(form.querySelectorAll(".to-label"));
    const status = document.getElementById("labelled");
    const box = (card, name) => card.querySelector(`[name=${name}]`);
    const isSaid = (card) => box(card, "yes").checked || box(card, "no").checked;
    let at = 0;

    const show = () => {
      const count = cards.filter(isSaid).length;
      status.textContent = count ? `${count} of ${cards.length} answered` : "";
    };
    const focus = (to, isScrolled = true) => {
      at = Math.min(Math.max(to, 0), cards.length - 1);
      cards.forEach((card, place) => card.classList.toggle("on", place === at));
      box(cards[at], "yes").focus({ preventScroll: true });
      if (isScrolled) cards[at].scrollIntoView({ block: "center" });
    };
    const say = (name) => {
      for (const other of ["yes", "no"]) box(cards[at], other).checked = other === name;
      show();
      if (at === cards.length - 1) form.requestSubmit(); // the round is over
      else focus(at + 1);
    };
    form.addEventListener("change", ({ target }) => {
      const card = target.closest(".to-label");
      if (card && target.checked) box(card, target.name === "yes" ? "no" : "yes").checked = false;
      show();
    });
    form.addEventListener("focusin", ({ target }) => {
      const card = target.closest(".to-label");
      if (!card) return;
      at = cards.indexOf(card);
      cards.forEach((one) => one.classList.toggle("on", one === card));
    });
    const ACTIONS = {
      y: () => say("yes"), n: () => say("no"), " ": () => say(null), u: () => focus(at - 1),
      j: () => focus(at + 1), k: () => focus(at - 1), ArrowRight: () => focus(at + 1), ArrowLeft: () => focus(at - 1),
      Enter: () => form.requestSubmit(),
    };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      if (event.target.matches?.("select, textarea, input:not([type=checkbox])")) return;
      if ((event.key === "Enter" || event.key === " ") && event.target.closest?.("a, button, summary")) return;
      const act = ACTIONS[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
    if (matchMedia("(pointer: fine)").matches && !new URLSearchParams(location.search).get("q")) focus(0, false);
    show();
  }
}
