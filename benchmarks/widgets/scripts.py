"""What the benchmark does in the page."""

WATCH = """() => {
    window.began = performance.now();
    window.painted = new Promise((done) => {
        const look = () => {
            const shown = document.querySelector(".osv-tracks")?.dataset ?? {};
            shown.picture && shown.boxes ? done(performance.now() - window.began) : setTimeout(look, 2);
        };
        look();
    });
}"""

CACHED = "frames => Number(document.querySelector('.osv-tracks').dataset.cached) >= frames"

# Sweeps the playhead over the clip as a pointer would, one move per frame of the screen, and looks at every paint.
SCRUB = """async seconds => {
    const root = document.querySelector(".osv-tracks"), line = root.querySelector(".osv-timeline");
    const box = line.getBoundingClientRect(), y = box.top + 50, left = box.left + 112, wide = box.width - 124;
    const fire = (type, x) => line.dispatchEvent(new PointerEvent(type, {
        clientX: x, clientY: y, button: 0, buttons: 1, pointerId: 1, bubbles: true }));
    line.setPointerCapture = () => {};
    fire("pointerdown", left);
    const start = performance.now();
    let screens = 0, paints = 0, exact = 0, last = "", longest = 0, before = start;
    while (performance.now() - start < seconds * 1000) {
        const now = await new Promise(requestAnimationFrame);
        longest = Math.max(longest, now - before); before = now;
        screens++;
        const share = Math.abs((((now - start) / 2500) % 2) - 1);
        fire("pointermove", left + share * wide);
        await new Promise((done) => setTimeout(done));
        if (root.dataset.frame !== last) {
            paints++;
            last = root.dataset.frame;
            if (root.dataset.picture === last) exact++;
        }
    }
    fire("pointerup", left);
    const passed = (performance.now() - start) / 1000;
    return { screens: screens / passed, paints: paints / passed, exact: exact / passed, longest };
}"""

JUMPS = """async frames => {
    const root = document.querySelector(".osv-tracks"), line = root.querySelector(".osv-timeline");
    const total = Number(line.getAttribute("aria-valuemax"));
    const box = line.getBoundingClientRect(), left = box.left + 108, wide = box.width - 116;
    line.setPointerCapture = () => {};
    const times = [];
    for (const frame of frames) {
        const start = performance.now();
        const clientX = left + ((frame - 0.5) / total) * wide;
        const event = { clientX, clientY: box.top + 20, button: 0, buttons: 1, bubbles: true };
        line.dispatchEvent(new PointerEvent("pointerdown", event));
        line.dispatchEvent(new PointerEvent("pointerup", event));
        await new Promise(requestAnimationFrame);
        const wanted = root.dataset.frame;
        while (root.dataset.picture !== wanted) await new Promise((done) => setTimeout(done, 1));
        times.push(performance.now() - start);
    }
    return times;
}"""

VIDEO = """async ([data, frames, rate]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const video = document.createElement("video");
    video.muted = true;
    video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
    document.body.append(video);
    await new Promise((done) => video.addEventListener("canplaythrough", done, { once: true }));
    const times = [];
    for (const frame of frames) {
        const start = performance.now();
        const shown = new Promise((done) => video.requestVideoFrameCallback(done));
        video.currentTime = (frame - 0.5) / rate;
        await shown;
        times.push(performance.now() - start);
    }
    video.remove();
    return times;
}"""
