// A sentence encoder: a text becomes one vector.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;

public sealed class Model : TextModel
{
    public Model(string folder) : base(folder) { }

    /// <summary>The name of the prompt that every text gets unless another is chosen.</summary>
    public string? DefaultPrompt => Settings.Find("default_prompt")?.GetString();

    private JsonElement Settings => Record.GetProperty("text");

    /// <summary>A text with a prompt in front of it, by a name of the model's prompts.</summary>
    public string Prompted(string text, string? prompt) =>
        prompt == null ? text : Settings.GetProperty("prompts").GetProperty(prompt).GetString() + text;

    /// <summary>The vector of a text. Pooling is part of the model.</summary>
    public float[] Embed(string text) => Run(Tokens(Prompted(text, DefaultPrompt))).Values;

    /// <summary>The answer to one case of the self-test.</summary>
    public Answer Answer(JsonElement wanted)
    {
        var ids = Tokens(Prompted(wanted.GetProperty("text").GetString()!, DefaultPrompt));
        return new Answer(ids, new Dictionary<string, Output> { [OutputName] = Run(ids) }, null);
    }

    /// <summary>Lines that say how similar each text is to the first.</summary>
    public IEnumerable<string> Show(IReadOnlyList<string> texts)
    {
        if (texts.Count == 0) yield break;
        var first = Embed(texts[0]);
        foreach (var text in texts.Skip(1))
            yield return FormattableString.Invariant($"{Cosine(first, Embed(text)):F4} {text}");
    }

    private static double Dot(float[] a, float[] b) => a.Zip(b, (x, y) => (double)x * y).Sum();

    private static double Cosine(float[] a, float[] b) =>
        Dot(a, b) / Math.Sqrt(Dot(a, a) * Dot(b, b));
}
