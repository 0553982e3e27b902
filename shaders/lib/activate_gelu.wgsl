fn activate(x: f32) -> f32 {
    // tanh overflows in some drivers where its argument is large; at 15 it is 1.
    let inner = 0.7978845608 * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1.0 + tanh(clamp(inner, -15.0, 15.0)));
}
