// Elements made and found; text is always text, never markup.

export const byId = (id) => document.getElementById(id);

/** Return an element with properties, data, attributes and children. */
export function h(name, { data = {}, attrs = {}, ...properties } = {}, ...children) {
  const element = document.createElement(name);
  Object.assign(element, properties);
  Object.assign(element.dataset, data);
  for (const [key, value] of Object.entries(attrs)) {
    if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Set text only where it has changed, so that nothing is read out twice. */
export function text(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/** Say something to those who listen to the page, without moving anything. */
export function announce(words) {
  const place = byId("announce");
  place.textContent = "";
  requestAnimationFrame(() => { place.textContent = words; });
}
