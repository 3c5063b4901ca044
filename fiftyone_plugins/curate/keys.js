// A button whose text ends in a letter in brackets, as "Fix as suggested [F]", is also pressed by that key: FiftyOne's
// panels in Python have buttons, but no keys.
(() => {
  const typing = (node) => node.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(node.tagName);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || typing(event.target)) return;
    if (document.querySelector("[data-cy='operators-prompt-modal']")) return;
    const ending = `[${event.key.toUpperCase()}]`;
    const buttons = document.querySelectorAll("[data-cy^='panel-content'] button");
    const pressed = [...buttons].find(
      (button) => button.offsetParent && !button.disabled && button.textContent.trim().endsWith(ending)
    );
    if (pressed) {
      event.preventDefault();
      event.stopPropagation();
      pressed.click();
    }
  }, true);
})();
