// Labelling with single keys, while a picture's boxes have the focus. Without this file, the boxes and the button do the same.
"use strict";

{
  const KEYS = { y: "yes", n: "no", s: null };
  const box = (card, name) => card.querySelector(`[name=${name}]`);
  const isSaid = (card) => box(card, "yes").checked || box(card, "no").checked;

  const setUp = (form) => {
    form.dataset.ready = "yes";
    const cards = Array.from(form.querySelectorAll(".to-label"));
    const status = document.getElementById("labelled");
    const show = () => {
      const count = cards.filter(isSaid).length;
      status.textContent = count ? `${count} of ${cards.length} answered` : "";
    };
    const focus = (to) => {
      const card = cards[Math.min(Math.max(to, 0), cards.length - 1)];
      box(card, "yes").focus({ preventScroll: true });
      card.scrollIntoView({ block: "center" });
    };
    form.addEventListener("change", ({ target }) => {
      const card = target.closest(".to-label");
      if (card && target.checked) box(card, target.name === "yes" ? "no" : "yes").checked = false;
      show();
    });
    form.addEventListener("focusin", ({ target }) => {
      const on = target.closest(".to-label");
      for (const card of cards) card.classList.toggle("on", card === on);
    });
    form.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      const card = event.target.closest(".to-label");
      if (!card) return;
      const at = cards.indexOf(card);
      const steps = { u: -1, k: -1, ArrowLeft: -1, j: 1, ArrowRight: 1 }[event.key];
      if (event.key in KEYS) {
        for (const name of ["yes", "no"]) box(card, name).checked = name === KEYS[event.key];
        show();
        if (at < cards.length - 1) focus(at + 1);
        else form.querySelector("button.primary").focus(); // the round is over
      } else if (steps) focus(at + steps);
      else return;
      event.preventDefault();
    });
    show();
  };

  // What is computed comes later than the page.
  const look = () => {
    const form = document.getElementById("label");
    if (form && !form.dataset.ready) setUp(form);
    const told = document.querySelector("#learnt .advice, #learnt [role=alert]");
    const computed = document.getElementById("computed");
    if (told && computed && computed.textContent !== told.textContent) computed.textContent = told.textContent;
  };
  document.addEventListener("htmx:after:swap", look);
  look();
}
