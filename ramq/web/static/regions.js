// Regions on the page of an image: the one under the pointer shows its name, and people draw new ones.
"use strict";

{
  const stage = document.querySelector(".stage");
  const draw = document.getElementById("draw");

  // Point at the picture to see the name of the smallest region there, and its row in the list.
  if (stage) {
    const regions = Array.from(stage.querySelectorAll(".region"), (mark) => ({
      mark, rect: mark.querySelector("rect"), row: document.querySelector(`[data-spot="${mark.id}"]`),
    }));
    let lit = null;
    const light = (found) => {
      if (found === lit) return;
      for (const [one, isOn] of [[lit, false], [found, true]]) {
        one?.mark.classList.toggle("on", isOn);
        one?.row?.classList.toggle("on", isOn);
      }
      lit = found;
    };
    stage.addEventListener("pointermove", ({ clientX, clientY, pointerType }) => {
      if (pointerType === "touch" || draw?.open) return;
      let best = null, least = Infinity;
      for (const one of regions) {
        const { left, top, right, bottom, width, height } = one.rect.getBoundingClientRect(); // all 0 while it is hidden
        if (width * height === 0 || clientX < left || clientX > right || clientY < top || clientY > bottom) continue;
        if (width * height < least) [best, least] = [one, width * height];
      }
      light(best);
    });
    stage.addEventListener("pointerleave", () => light(null));
  }

  if (stage && draw) {
    const STEP = 0.01, LEAST = 0.002; // shares of the picture: a press of an arrow key, and the least side of a box
    const DRAG = 4; // pixels: a shorter way is a click
    const MISSING = "Draw a box over the picture, or write its sides: left less than right, and top less than bottom.";
    const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

    const form = draw.querySelector("form");
    const tag = form.elements.tag;
    const fields = ["left", "top", "right", "bottom"].map((name) => form.elements[name]);
    const status = document.getElementById("draw-status");
    const how = document.getElementById("draw-how");
    const cancelling = form.querySelector(".cancel");
    how.hidden = cancelling.hidden = false;

    const element = (name, parent) => parent.appendChild(Object.assign(document.createElement("div"), { className: name }));
    const pad = element("pad", stage);
    pad.tabIndex = 0;
    for (const [name, value] of [["role", "application"], ["aria-label", "Box of the new region"], ["aria-describedby", how.id]]) pad.setAttribute(name, value);
    const shown = element("new-box", pad);
    for (const corner of ["nw", "ne", "sw", "se"]) element(`corner ${corner}`, shown);

    let box = null; // left, top, right, bottom as shares of the picture
    const within = (value, least, most) => Math.min(Math.max(value, least), most);
    const show = () => {
      shown.hidden = box === null;
      fields[0].setCustomValidity(box === null ? MISSING : "");
      if (box === null) return;
      const [left, top, right, bottom] = box.map((share) => 100 * share);
      Object.assign(shown.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
    };
    const put = (next) => {
      box = next;
      fields.forEach((field, side) => { field.value = box === null ? "" : Number((100 * box[side]).toFixed(2)); });
      show();
    };
    const say = () => {
      status.textContent = box === null ? "" : `Box: ${fields.map((field) => `${field.name} ${Math.round(field.value)}`).join(", ")} percent`;
    };
    const move = ([left, top, right, bottom], across, down) => {
      const [x, y] = [within(across, -left, 1 - right), within(down, -top, 1 - bottom)];
      return [left + x, top + y, right + x, bottom + y];
    };
    const read = () => {
      const typed = fields.map((field) => (field.value === "" ? NaN : field.valueAsNumber / 100));
      const isBox = typed.every((share) => share >= 0 && share <= 1) && typed[0] < typed[2] && typed[1] < typed[3];
      box = isBox ? typed : null;
      show();
    };
    for (const field of fields) field.addEventListener("input", read);

    // With the mouse, a pen or a finger: draw a box, move it, or take it at a corner.
    let grip = null;
    const place = ({ clientX, clientY }) => {
      const { left, top, width, height } = pad.getBoundingClientRect();
      return [within((clientX - left) / width, 0, 1), within((clientY - top) / height, 0, 1)];
    };
    const between = ([x, y], [otherX, otherY]) => {
      const [left, top] = [within(Math.min(x, otherX), 0, 1 - LEAST), within(Math.min(y, otherY), 0, 1 - LEAST)];
      return [left, top, Math.max(x, otherX, left + LEAST), Math.max(y, otherY, top + LEAST)];
    };
    pad.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      event.preventDefault(); // no text is selected
      pad.focus({ preventScroll: true });
      pad.setPointerCapture(event.pointerId);
      const corner = event.target.closest(".corner")?.classList[1];
      const isInside = event.target.closest(".new-box") !== null;
      const start = place(event);
      // The corner opposite the one that is taken stays where it is.
      const fixed = corner ? [corner[1] === "w" ? box[2] : box[0], corner[0] === "n" ? box[3] : box[1]] : start;
      grip = { fixed, start, before: isInside && !corner ? box : null, at: [event.clientX, event.clientY], isDrag: false };
    });
    pad.addEventListener("pointermove", (event) => {
      if (grip === null || !event.isPrimary) return;
      grip.isDrag ||= Math.hypot(event.clientX - grip.at[0], event.clientY - grip.at[1]) >= DRAG;
      if (!grip.isDrag) return;
      const now = place(event);
      put(grip.before ? move(grip.before, now[0] - grip.start[0], now[1] - grip.start[1]) : between(grip.fixed, now));
    });
    for (const name of ["pointerup", "pointercancel"]) pad.addEventListener(name, () => {
      if (grip?.isDrag) say();
      grip = null;
    });

    // With the keyboard. No key goes on to the links to the previous and the next result.
    pad.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const [across, down] = (KEYS[event.key] ?? []).map((way) => way * STEP);
      if (event.key === "Enter") form.requestSubmit(form.querySelector("[value=draw]"));
      else if (across === undefined) return;
      else if (box === null) put([0.4, 0.4, 0.6, 0.6]);
      else if (event.shiftKey) put([box[0], box[1], within(box[2] + across, box[0] + LEAST, 1), within(box[3] + down, box[1] + LEAST, 1)]);
      else put(move(box, across, down));
      event.preventDefault();
      event.stopPropagation();
      say();
    });

    const follow = () => {
      pad.hidden = !draw.open;
      if (draw.open) read();
    };
    const cancel = () => {
      tag.value = "";
      put(null);
      say();
      draw.open = false;
      draw.querySelector("summary").focus();
    };
    cancelling.addEventListener("click", cancel);
    for (const part of [form, pad]) part.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented) return; // the list of completions was closed by it
      event.preventDefault();
      cancel();
    });
    draw.addEventListener("toggle", follow);
    // On a phone, the keyboard on the screen would hide the picture.
    draw.querySelector("summary").addEventListener("click", () => {
      if (!draw.open && matchMedia("(pointer: fine)").matches) requestAnimationFrame(() => tag.focus());
    });
    follow();
  }
}
