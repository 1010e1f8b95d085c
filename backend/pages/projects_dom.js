/** Small tools for a page that changes in place. Text is set as text, never read as HTML. */

/** A new element. Names with a hyphen, and `role` and `scope`, are attributes, others properties. */
export function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "scope") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

/** The part of an element that was made with `data-part`. */
export function part(element, name) {
  return element.querySelector(`[data-part="${name}"]`);
}

/** Let an element say something; with nothing to say it is hidden. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = text === "";
}

/** Whether a button may be pressed. It keeps the focus, as it would not when disabled. */
export function allow(button, allowed) {
  if (allowed) button.removeAttribute("aria-disabled");
  else button.setAttribute("aria-disabled", "true");
}

/** Call `step` when a button is pressed, unless it must not be. */
export function onPress(button, step) {
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-disabled") !== "true") step();
  });
}

/**
 * Let the children of `parent` stand for `items`, in their order. Those that are there already stay
 * the same elements, so that nobody loses the focus or an opened list.
 */
export function keep(parent, items, { key, create, update }) {
  const there = new Map([...parent.children].map((one) => [one.dataset.key, one]));
  let last = null;
  for (const item of items) {
    const name = String(key(item));
    let element = there.get(name);
    if (element === undefined) {
      element = create(item);
      element.dataset.key = name;
    }
    there.delete(name);
    update(element, item);
    const place = last === null ? parent.firstElementChild : last.nextElementSibling;
    if (place !== element) parent.insertBefore(element, place);
    last = element;
  }
  for (const gone of there.values()) gone.remove();
}
