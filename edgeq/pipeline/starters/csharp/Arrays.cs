// A model from arrays to arrays.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

public sealed class Model : IDisposable
{
    private static readonly Dictionary<string, TensorElementType> Types =
        new Dictionary<string, TensorElementType>
        {
            ["float32"] = TensorElementType.Float,
            ["float64"] = TensorElementType.Double,
            ["float16"] = TensorElementType.Float16,
            ["int64"] = TensorElementType.Int64,
            ["int32"] = TensorElementType.Int32,
            ["int16"] = TensorElementType.Int16,
            ["int8"] = TensorElementType.Int8,
            ["uint64"] = TensorElementType.UInt64,
            ["uint32"] = TensorElementType.UInt32,
            ["uint16"] = TensorElementType.UInt16,
            ["uint8"] = TensorElementType.UInt8,
            ["bool"] = TensorElementType.Bool,
        };

    private readonly Session session;

    public Model(string folder) => session = new Session(folder);

    /// <summary>The outputs by name; disposes the inputs.</summary>
    public Dictionary<string, Output> Run(Dictionary<string, OrtValue> feeds) => session.Run(feeds);

    /// <summary>The answer to the arrays of the self-test.</summary>
    public Answer Answer(JsonElement wanted) => new Answer(null, Run(Sample()), null);

    /// <summary>Lines with the shape and first value of each output, for the arrays in inputs/.
    /// </summary>
    public IEnumerable<string> Show(IReadOnlyList<string> texts)
    {
        foreach (var (name, output) in Run(Sample()))
        {
            var shape = string.Join(" ", output.Shape);
            var first = output.Values.FirstOrDefault();
            yield return FormattableString.Invariant($"{name}: {shape}, first value {first}");
        }
    }

    public void Dispose() => session.Dispose();

    /// <summary>The arrays in inputs/, by name.</summary>
    private Dictionary<string, OrtValue> Sample()
    {
        var described = Json.Read(Path.Combine("inputs", "inputs.json"));
        return session.Inputs.ToDictionary(name => name, name => Read(described.GetProperty(name)));
    }

    private static OrtValue Read(JsonElement array)
    {
        var shape = array.GetProperty("shape").Select(each => each.GetInt64());
        var value = OrtValue.CreateAllocatedTensorValue(
            OrtAllocator.DefaultInstance, Types[array.GetProperty("dtype").GetString()!], shape);
        var path = Path.Combine("inputs", array.GetProperty("file").GetString()!);
        File.ReadAllBytes(path).CopyTo(value.GetTensorMutableRawData());
        return value;
    }
}
