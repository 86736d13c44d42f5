// A text classifier: a text gets a probability for each label.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;

public sealed class Model : TextModel
{
    private readonly string[] names;
    private readonly string function;

    public Model(string folder) : base(folder)
    {
        var classes = Record.GetProperty("classes");
        names = classes.GetProperty("labels").Select(each => each.GetString()!);
        function = classes.GetProperty("function").GetString()!;
    }

    /// <summary>The probability of each label, in the model's order.</summary>
    public (string Label, float Share)[] Classify(string text) => Probabilities(Run(Tokens(text)));

    /// <summary>The labels that a text gets: the likeliest, or each above one half if it has
    /// several.</summary>
    public string[] Labels((string Label, float Share)[] probabilities)
    {
        var found = function == "sigmoid"
            ? probabilities.Where(each => each.Share >= 0.5f)
            : probabilities.OrderByDescending(each => each.Share).Take(1);
        return found.Select(each => each.Label).ToArray();
    }

    /// <summary>The answer to one case of the self-test.</summary>
    public Answer Answer(JsonElement wanted)
    {
        var ids = Tokens(wanted.GetProperty("text").GetString()!);
        var scores = Run(ids);
        var outputs = new Dictionary<string, Output> { [OutputName] = scores };
        return new Answer(ids, outputs, Labels(Probabilities(scores)));
    }

    /// <summary>Lines with the probability of each label, for each text.</summary>
    public IEnumerable<string> Show(IReadOnlyList<string> texts)
    {
        foreach (var text in texts)
        {
            yield return text;
            foreach (var (label, share) in Classify(text))
                yield return FormattableString.Invariant($"  {share:F4} {label}");
        }
    }

    private (string Label, float Share)[] Probabilities(Output output)
    {
        var scores = output.Values;
        var largest = scores.Max();
        var sum = scores.Sum(score => MathF.Exp(score - largest));
        return names.Zip(scores, (label, score) => (label, function switch
        {
            "softmax" => MathF.Exp(score - largest) / sum,
            "sigmoid" => 1 / (1 + MathF.Exp(-score)),
            _ => score,
        })).ToArray();
    }
}
