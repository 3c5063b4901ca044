// Asking for news now and then, while the widget is in sight, one question at a time.

function watch(element, everySeconds, look) {
  let timer = 0;
  let inSight = true;
  let over = false;
  const seen = new IntersectionObserver(([entry]) => (inSight = entry.isIntersecting));
  seen.observe(element);
  const next = async () => {
    if (over) return;
    if (inSight && !document.hidden) await look();
    if (!over) timer = setTimeout(next, everySeconds() * 1000);
  };
  if (everySeconds() > 0) timer = setTimeout(next, everySeconds() * 1000);
  return () => {
    over = true;
    clearTimeout(timer);
    seen.disconnect();
  };
}
