// Reviewing with single keys, while something in the form has the focus. The answers go to the API, one after the other; without this file, the form sends them.
"use strict";

{
  const form = document.getElementById("review");
  const list = document.getElementById("decisions");
  if (form?.dataset.say && list) {
    const tally = document.getElementById("tally");
    const status = document.getElementById("selected");
    const trouble = document.getElementById("trouble");
    const keys = document.getElementById("keys");
    const tag = form.elements.tag.value;
    const [confirming, rejecting] = form.querySelectorAll(".bar-of-answers [name=say]");
    const WORDS = { true: form.dataset.right, false: form.dataset.wrong };
    const WHERE = { true: form.dataset.rightWhere, false: form.dataset.wrongWhere };
    const bar = form.querySelector(".bar-of-answers");
    const finished = document.getElementById("finished");
    const told = document.getElementById("told"); // is read out

    const cards = () => Array.from(list.querySelectorAll(".decision"));
    const box = (card) => card.querySelector("input[type=checkbox]");
    const isOpen = (card) => !card.classList.contains("answered");
    const open = () => cards().filter(isOpen);
    const chosen = () => open().filter((card) => box(card).checked);
    let latest = null; // the picture that had the focus last
    const current = () => document.activeElement?.closest?.(".decision") ?? (latest && isOpen(latest) ? latest : open()[0] ?? null);
    const point = () => { for (const card of cards()) card.classList.toggle("current", card === current() && isOpen(card)); };
    form.addEventListener("focusin", ({ target }) => { latest = target.closest(".decision") ?? latest; point(); });
    const focus = (card) => {
      if (!card) return;
      box(card).focus({ preventScroll: true });
      card.scrollIntoView({ block: "center" });
    };

    // What Enter does with the pictures that are selected.
    let choice = null;
    const show = () => {
      const count = chosen().length;
      if (count === 0) choice = null;
      confirming.setAttribute("aria-pressed", String(choice === true));
      rejecting.setAttribute("aria-pressed", String(choice === false));
      bar.hidden = count === 0;
      point();
      status.textContent = count === 0 ? "" : `${count} selected${choice === null ? "" : `: press Enter for “${form.dataset.name}” ${WORDS[choice]}`}`;
    };

    const count = (waiting, reviewed, right) => {
      const now = tally.dataset;
      for (const [name, more] of [["waiting", waiting], ["reviewed", reviewed], ["right", right]]) now[name] = Number(now[name]) + more;
      const [left, done] = [Number(now.waiting), Number(now.reviewed)];
      const share = done ? `, ${Math.round((100 * now.right) / done)}\u00a0% of these right` : "";
      tally.querySelector(".pace").textContent = `${left.toLocaleString("en")} to review, ${done.toLocaleString("en")} reviewed${share}`;
      tally.querySelector(".done").setAttribute("width", (1000 * done) / Math.max(left + done, 1));
      tally.querySelector("svg").setAttribute("aria-label", `${done} of ${left + done} reviewed`);
    };

    const mark = (card, words) => {
      card.querySelector(".said")?.remove();
      card.classList.toggle("answered", words !== null);
      box(card).checked = false;
      for (const part of card.querySelectorAll("input, button")) part.disabled = words !== null;
      if (words !== null) card.append(Object.assign(document.createElement("span"), { className: "said badge done", textContent: words }));
    };

    const send = async (of, ids, isRight) => {
      const response = await fetch(form.dataset.say + of, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify({ image_ids: ids, is_right: isRight }),
      });
      const told = await response.json();
      if (!response.ok) throw new Error(told.detail ?? response.statusText);
      return told;
    };
    const complain = (text) => { trouble.textContent = text; trouble.hidden = text === ""; };

    // Answers of this visit, the last one at the end. One of an earlier visit has a button, and no key.
    const given = [];
    const earlier = document.getElementById("last");
    const ofEarlier = earlier && { tag: earlier.dataset.tag, what: earlier.elements.what.value, ids: Array.from(earlier.querySelectorAll("[name=image]"), (field) => Number(field.value)) };
    const pictures = (number) => `${number} picture${number === 1 ? "" : "s"}`;
    const tell = (words) => { told.textContent = `${words} ${Number(tally.dataset.waiting).toLocaleString("en")} to review.`; };

    let queue = Promise.resolve();
    const inOrder = (task) => { queue = queue.then(task).catch((error) => complain(`Nothing was stored: ${error.message}`)); };

    const answer = (which, isRight) => {
      if (which.length === 0) return;
      complain("");
      const all = cards();
      const last = all.indexOf(which[which.length - 1]);
      for (const card of which) mark(card, "…");
      const following = all.slice(last + 1).find(isOpen) ?? all.find(isOpen);
      focus(following);
      show();
      inOrder(async () => {
        const ids = which.map((card) => Number(card.dataset.image));
        let stored;
        try {
          stored = await send(tag, ids, isRight);
        } catch (error) {
          for (const card of which) mark(card, null);
          focus(which[0]);
          throw error;
        }
        const others = new Map(stored.others.map((one) => [one.image_id, one]));
        for (const card of which) {
          const before = others.get(Number(card.dataset.image));
          mark(card, before ? `${WORDS[before.is_right]}, by ${before.said_by === "local" ? "you" : before.said_by}` : WORDS[isRight]);
        }
        count(-ids.length, ids.length, isRight ? stored.image_ids.length : 0);
        if (others.size) count(0, 0, stored.others.filter((one) => one.is_right).length);
        if (stored.image_ids.length) given.push({ tag, what: form.elements.what.value, ids: stored.image_ids, isRight });
        tell(`“${form.dataset.name}” ${WORDS[isRight]} ${WHERE[isRight]} ${pictures(stored.image_ids.length)}${others.size ? `, ${others.size} had an answer before` : ""}.`);
        earlier?.remove();
        if (open().length || list.querySelector(".more")) return;
        if (Number(tally.dataset.waiting) <= 0) {
          finished.hidden = false;
          finished.querySelector("a").focus(); // so that u still undoes
        } else location.assign(form.action + location.search.replace(/&cursor=[^&]*/, ""));
      });
    };

    const undo = (before) => inOrder(async () => {
      const answered = before ?? given.at(-1);
      if (!answered) return complain("There is no answer of this visit to undo.");
      complain("");
      await send(answered.tag, answered.ids, null);
      if (!before) given.pop();
      earlier?.remove();
      const back = answered.tag !== tag ? [] : cards().filter((card) => answered.ids.includes(Number(card.dataset.image)));
      if (back.length < answered.ids.length) { // they are of another page
        location.assign(`${form.action}?${new URLSearchParams({ tag: answered.tag, what: answered.what })}`);
        return;
      }
      for (const card of back) mark(card, null);
      finished.hidden = true;
      count(back.length, -back.length, answered.isRight ? -back.length : 0);
      tell(`Undone: ${pictures(back.length)}.`);
      focus(back[0]);
      show();
    });

    form.addEventListener("change", show);
    form.addEventListener("submit", (event) => {
      const button = event.submitter;
      event.preventDefault();
      if (button?.name === "one") answer([button.closest(".decision")], button.value.startsWith("right"));
      else if (button?.name === "say") answer(chosen(), button.value === "right");
    });
    earlier?.addEventListener("submit", (event) => { event.preventDefault(); undo(ofEarlier); });

    const across = () => {
      const all = cards();
      return all.findIndex((card) => card.offsetTop !== all[0].offsetTop) >>> 0; // as many as there are, if there is one row
    };
    const move = (steps) => {
      const all = cards();
      const at = all.indexOf(document.activeElement?.closest?.(".decision") ?? null);
      if (at < 0) return focus(current());
      const way = Math.sign(steps);
      let to = Math.min(Math.max(at + steps, 0), all.length - 1);
      while (all[to] && !isOpen(all[to])) to += way;
      focus(all[to]);
    };
    const say = (isRight) => {
      if (chosen().length === 0) return answer([current()].filter((card) => card && isOpen(card)), isRight);
      choice = isRight;
      show();
    };
    const ACTIONS = {
      j: () => move(1), ArrowRight: () => move(1), k: () => move(-1), ArrowLeft: () => move(-1),
      ArrowDown: () => move(Math.min(across(), cards().length)), ArrowUp: () => move(-Math.min(across(), cards().length)),
      y: () => say(true), n: () => say(false), u: () => undo(),
      x: () => { const card = current(); if (card && isOpen(card)) { box(card).checked = !box(card).checked; show(); } },
      a: () => { const isAll = chosen().length === open().length; for (const card of open()) box(card).checked = !isAll; show(); },
      Escape: () => { for (const card of chosen()) box(card).checked = false; show(); },
      "?": () => { keys.open = !keys.open; },
    };
    form.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      const isField = event.target.matches?.("select, textarea, input:not([type=checkbox])");
      if (isField) return;
      if (event.key === "Enter") {
        if (event.target.closest?.("a, button, summary")) return;
        event.preventDefault();
        if (chosen().length && choice !== null) answer(chosen(), choice);
        else if (chosen().length) status.textContent = `${chosen().length} selected: press y or n, then Enter`;
        return;
      }
      const act = ACTIONS[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
    show();
  }
}
