// A widget that has nothing to draw but its states.
export default shell("bare", () => ({}));
